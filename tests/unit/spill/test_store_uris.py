"""A store's URI is taken as it was meant, or refused in one line that shows what is wrong with it."""

from __future__ import annotations

import pytest

import runwide
from runwide.errors import BadReference
from runwide.spill.store import open_store

ODD = [
    "ünïcode/日本語", "a b", "a%20b", "100%", "a#b", "a?b", "a&b=c", "a+b", "'q'", "[x]", "*", "a:b", "a@b", "{}", "$HOME",
    "a\\b", "emoji🎉", "e\u0301", "~", "x" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_folder_with_an_odd_name_holds_a_job(tmp_path, name):
    job = runwide.scatter(abs, [-1, -2], store=f"{tmp_path}/{name}", shards=1)
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [1, 2]
    assert (tmp_path / name).is_dir()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "not the URI"),
        ("   ", "white space"),
        ("gs://bucket/x\n", "white space"),
        (" gs://bucket/x", "white space"),
        ("/folder\n", "white space"),
        ("gs://bucket/a\nb", "control"),
        ("/folder/a\tb", "control"),
        ("/folder/nul\0", "control"),
        ("~/runs", "'~'"),
        ("~", "'~'"),
        ("gs://", "bucket's name is missing"),
        ("gs:///x", "bucket's name is missing"),
        ("gs://Bad_Bucket!/x", "cannot be the name of a bucket"),
        ("gs://bücket/x", "cannot be the name of a bucket"),
        ("gs://bucket?x/y", "cannot be the name of a bucket"),
        ("gs://bucket#x", "cannot be the name of a bucket"),
        ("gs://bucket/a//b", "not the name of an object"),
        ("gs://bucket/../b", "not the name of an object"),
        ("s3://bucket/x", "no store for s3://"),
        ("gs:bucket/x", "two slashes"),
        ("file://folder", "three slashes"),
    ],
)
def test_a_uri_that_cannot_be_meant_is_refused_in_one_line(uri, says):
    with pytest.raises(BadReference) as caught:
        open_store(uri)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_named_tilde_can_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("./~").create("object", b"x")
    assert (tmp_path / "~" / "object").read_bytes() == b"x"
