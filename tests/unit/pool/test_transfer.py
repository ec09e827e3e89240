"""Values cross between processes whole, and large arrays without a second copy."""

from __future__ import annotations

import array
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import ScratchFull
from runwide.pool import transfer
from runwide.pool.channel import Unframer, framed
from runwide.pool.scratch import Scratch, open_mapping

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture
def scratch(tmp_path):
    made = Scratch.create(str(tmp_path))
    yield made
    made.remove()
    assert list(tmp_path.iterdir()) == []


def through(values, scratch):
    entries = [
        value if transfer.is_scalar(value) else (transfer.FRAME, *transfer.dump_by_value(value))
        for value in values
    ]
    path, sealed = transfer.seal(entries, scratch)
    (arrived,) = Unframer().feed(framed((path, sealed)))
    mapping = open_mapping(arrived[0])
    return [transfer.load(entry, mapping) for entry in arrived[1]]


@given(st.lists(plain, min_size=1))
def test_plain_values_come_back_equal(tmp_path_factory, values):
    scratch = Scratch.create(str(tmp_path_factory.getbasetemp()))
    try:
        assert through(values, scratch) == values
    finally:
        scratch.remove()


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_arrays_come_back_equal_and_writable(scratch, size):
    first, second = np.arange(size, dtype="float64"), np.arange(size, dtype="int8")
    back = through([first, "between", second, {"deep": [first]}], scratch)
    np.testing.assert_array_equal(back[0], first)
    np.testing.assert_array_equal(back[2], second)
    np.testing.assert_array_equal(back[3]["deep"][0], first)
    assert back[1] == "between"
    back[0][0] = -1
    assert first[0] == 0


def test_a_payload_file_is_gone_once_it_is_mapped(scratch):
    (back,) = through([np.zeros(1_000_000)], scratch)
    assert back.shape == (1_000_000,)
    assert [path for directory in scratch.directories for path in Path(directory).iterdir()] == []


def test_a_non_contiguous_array_crosses(scratch):
    strided = np.arange(2_000_000)[::2]
    (back,) = through([strided], scratch)
    np.testing.assert_array_equal(back, strided)


def test_a_buffer_of_the_standard_library_crosses(scratch):
    (back,) = through([array.array("d", range(100_000))], scratch)
    assert back == array.array("d", range(100_000))


def test_a_full_scratch_directory_is_a_named_error(monkeypatch, tmp_path):
    def full(*_args):
        raise OSError(28, "No space left on device")

    scratch = Scratch.create(str(tmp_path))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ScratchFull, match="RUNWIDE_SCRATCH"):
        transfer.seal([(transfer.FRAME, pickle.dumps(0), [memoryview(bytes(100_000))])], scratch)
    monkeypatch.undo()
    assert list(Path(scratch.directories[0]).iterdir()) == []
    scratch.remove()


def test_one_at_a_time_has_the_turn_to_try_for_room(scratch):
    with scratch.turn() as first, scratch.turn() as second:
        assert (first, second) == (True, False)
    with scratch.turn() as again:
        assert again


FORKING = """
import os, signal, sys
from runwide.pool.scratch import Scratch

scratch = Scratch.create(sys.argv[1])
with scratch.turn():
    child = os.fork()
    if not child:
        signal.pause()
with scratch.turn() as again:
    print(again)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
scratch.remove()
"""


def test_a_turn_ends_though_a_fork_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "True\n"


def test_a_turn_that_cannot_be_had_alone_is_had_together(scratch):
    scratch.remove()  # as where there are no locks, or no more descriptors
    with scratch.turn() as first, scratch.turn() as second:
        assert (first, second) == (True, True)


def test_a_relative_folder_is_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    scratch = Scratch.create("scratch")
    monkeypatch.chdir("/")
    path, _ = scratch.write([b"x"])
    assert path.startswith(f"{tmp_path}/scratch/")
    scratch.remove()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_only_what_a_pool_of_this_machine_has_left_is_swept(tmp_path):
    dead = Scratch.create(str(tmp_path))
    dead.remove()
    left = Path(dead.directories[0])
    (left / "folder").mkdir(parents=True)
    (left / "folder" / "w0-1-in-0").write_bytes(b"x")
    words = left.name.split("-")
    others = {
        "runwide",
        "runwide-report-abc",
        f"runwide-{os.getpid()}-abc",
        f"x{left.name}",
        f"{left.name}-x",
        "-".join([*words[:2], "unlocked", words[3]]),  # by a pool that could not lock it
        "-".join([*words[:2], f"{int(words[2], 16) ^ 1:08x}", words[3]]),  # by another machine
    }
    for name in others:
        (tmp_path / name).mkdir()
    Scratch.create(str(tmp_path)).remove()
    assert {path.name for path in tmp_path.iterdir()} == others


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes directories of other users")
def test_what_other_users_have_is_left_alone(tmp_path):
    dead = Scratch.create(str(tmp_path))
    dead.remove()
    theirs, own = Path(dead.directories[0]), tmp_path / "own"
    own.mkdir()
    (own / "file").touch()
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    link = theirs.with_name(f"{theirs.name[:-1]}{int(theirs.name[-1], 16) ^ 1:x}")
    link.symlink_to(own)
    Scratch.create(str(tmp_path)).remove()
    assert theirs.exists()
    assert link.is_symlink()
    assert (own / "file").exists()


@given(st.lists(st.binary(max_size=300), min_size=1), st.integers(1, 7))
def test_messages_survive_any_fragmentation(messages, step):
    stream = b"".join(framed(message) for message in messages)
    unframer = Unframer()
    received = []
    for start in range(0, len(stream), step):
        received += unframer.feed(stream[start : start + step])
    assert received == messages
