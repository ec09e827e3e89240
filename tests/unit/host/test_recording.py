"""Recordings of machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import InputError
from runwide.host.measuring import recording

line = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(
    lambda text: text.strip() == text
)
paths = st.from_regex(r"/[a-z]{1,8}(/[a-z0-9._-]{1,8}){0,3}", fullmatch=True)


@given(st.dictionaries(paths, st.lists(line, min_size=1, max_size=4).map("\n".join)))
def test_packed_files_parse_to_the_same_files(files):
    assert recording.parse(recording.pack(files, source="made up")) == files


def test_only_the_lines_that_are_used_are_kept():
    packed = recording.pack(
        {
            "/proc/self/mountinfo": "22 1 8:1 / /secret rw - ext4 /dev/sda rw\n30 24 0:26 / /c rw - cgroup2 cgroup rw",
            "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nserial\t: 4711\nflags\t\t: fpu hypervisor sse",
            "/proc/version": "Linux version 6.1 (user@builder)",
        },
        source="x",
    )
    assert recording.parse(packed) == {
        "/proc/self/mountinfo": "30 24 0:26 / /c rw - cgroup2 cgroup rw",
        "/proc/cpuinfo": "processor\t: 0\nflags\t\t: hypervisor",
    }


@pytest.mark.parametrize("text", ["/a", "stray", "    indented before any file"])
def test_text_of_another_form_is_an_input_error(text):
    with pytest.raises(InputError, match="line 1"):
        recording.parse(text)


def test_a_recording_cannot_write_outside_its_directory(tmp_path):
    with pytest.raises(InputError, match="leaves the directory"):
        recording.unpack("/../../evil: 1", tmp_path)
