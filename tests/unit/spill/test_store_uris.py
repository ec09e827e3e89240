"""A store's URI is accepted, or refused in one line that shows the mistake."""

from __future__ import annotations

import sys

import pytest

import runwide
from runwide.errors import BadReference
from runwide.store.base import open_inside, open_store, parted

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
        ("gs:", "the name of the bucket or folder is missing [gs://]"),
        ("C:\\runs", "a folder of Windows"),
        ("c:/runs", "a folder of Windows"),
        ("file:///C:/runs", "a folder of Windows"),
        ("file://folder", "three slashes"),
    ],
)
def test_an_invalid_uri_is_refused_in_one_line(uri, says):
    with pytest.raises(BadReference) as caught:
        open_store(uri)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_named_tilde_can_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("./~").create("object", b"x")
    assert (tmp_path / "~" / "object").read_bytes() == b"x"


@pytest.fixture
def windows(monkeypatch, tmp_path):
    """Take this system for Windows; the file system is still that of Linux, where a drive is a folder of that name."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("uri", ["C:/runs", "file:///C:/runs", "file:///C%3A/runs"])
def test_on_windows_a_folder_has_a_drive(uri, tmp_path):
    assert open_store(uri).uri == f"{tmp_path}/C:/runs"


@pytest.mark.usefixtures("windows")
def test_on_windows_a_folder_of_a_drive_itself_is_below_its_root(monkeypatch):
    monkeypatch.setattr("os.path.abspath", lambda path: path)  # there, the path begins with a drive
    assert parted("C:/a-1") == ("C:/", "a-1")
    assert open_inside("C:/runs/a-1").uri == "C:/runs/a-1"


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("name", ["..\\..\\x", "a/b\\c", "a:stream", "items/NUL", "com1.json", "a.", "a "])
def test_on_windows_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    store = open_store(tmp_path)
    for use in (store.read, store.delete, lambda name: store.create(name, b"x")):
        with pytest.raises(BadReference, match="not the name of a file on Windows"):
            use(name)
    assert not list(tmp_path.iterdir())
