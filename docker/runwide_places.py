"""In the image, give each Python the places of its user: for modules, programs, its home and temporary files.

The environment's .pth file calls this at each start of Python: the variables of an image are the same for all users,
so nothing else can tell root from the others. What others may write is no place of root's.
"""

import os
import sys

_ADDED = "/opt/runwide/added"
_HOME = "/home/runwide"
_SHARED = "/dev/shm"  # noqa: S108 - a place, not a file with a guessable name
_TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp", ".")  # noqa: S108 - the places that tempfile looks at


def give(known: set[str]) -> None:
    """Give this Python its user's places.

    Args:
        known: The directories that site has put on the path.
    """
    if os.geteuid():
        _join_added(known)
        _join_programs()
        _choose_home()
    else:
        # Importing it is what it is for.
        import runwide_guard  # noqa: F401
    _choose_temporary()


def _join_added(known: set[str]) -> None:
    """Have pip install into the place that every user may write, and find first what is there."""
    below = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    own, added = f"{sys.prefix}/{below}", f"{_ADDED}/{below}"
    sys.path.insert(sys.path.index(own) if own in sys.path else len(sys.path), added)
    known.add(added)
    # pip and sysconfig install below the prefix, and site reads the .pth files there, once it has read those of `own`.
    sys.prefix = sys.exec_prefix = _ADDED


def _join_programs() -> None:
    """Let this Python's subprocesses find what pip has installed, after all programs of the image."""
    path, added = os.environ.get("PATH"), f"{_ADDED}/bin"
    if path and added not in path.split(":"):
        os.environ["PATH"] = f"{path}:{added}"


def _choose_home() -> None:
    """Replace the home of a uid without a line in /etc/passwd, which an engine says is the root directory."""
    if os.environ.get("HOME", "/") == "/":
        os.environ["HOME"] = _HOME


def _choose_temporary() -> None:
    """Name shared memory as the place for temporary files, where it is the only one that can be written."""
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        return
    if os.access(_SHARED, os.W_OK) and not any(os.access(place, os.W_OK) for place in _TEMPORARY):
        os.environ["TMPDIR"] = _SHARED
