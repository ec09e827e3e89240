"""In the image, set the folders of each Python by its user: for modules, programs, the home and temporary files.

The environment's .pth file calls this at each start of Python, since the variables of an image are the same for root and
all other users. Root uses no folder that other users may write.
"""

import os
import sys

_ADDED = "/opt/runwide/added"
_HOME = "/home/runwide"
_SHARED = "/dev/shm"  # noqa: S108 - a place, not a file with a guessable name
_TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp", ".")  # noqa: S108 - the places that tempfile looks at


def give(known: set[str]) -> None:
    """Set the folders of this Python.

    Args:
        known: The directories that the module `site` has put on the search path.
    """
    if os.geteuid():
        _join_added(known)
        _join_programs()
        _choose_home()
    else:
        # The import installs the guard.
        import runwide_guard  # noqa: F401
    _choose_temporary()


def _join_added(known: set[str]) -> None:
    """Make pip install into the folder that every user may write, and make Python search it first."""
    below = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    own, added = f"{sys.prefix}/{below}", f"{_ADDED}/{below}"
    sys.path.insert(sys.path.index(own) if own in sys.path else len(sys.path), added)
    known.add(added)
    # pip and sysconfig install below the prefix, and `site` reads the .pth files there after those of `own`.
    sys.prefix = sys.exec_prefix = _ADDED


def _join_programs() -> None:
    """Let child processes find programs that pip has installed, after all programs of the image."""
    path, added = os.environ.get("PATH"), f"{_ADDED}/bin"
    if path and added not in path.split(":"):
        os.environ["PATH"] = f"{path}:{added}"


def _choose_home() -> None:
    """Set a home for a uid without a line in /etc/passwd: engines set it to the root directory."""
    if os.environ.get("HOME", "/") == "/":
        os.environ["HOME"] = _HOME


def _choose_temporary() -> None:
    """Use shared memory for temporary files if no other folder is writable."""
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        return
    if os.access(_SHARED, os.W_OK) and not any(os.access(place, os.W_OK) for place in _TEMPORARY):
        os.environ["TMPDIR"] = _SHARED
