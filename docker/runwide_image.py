"""In the image, tell joblib and loky how many cores there are, when a program first imports one of them.

The environment's .pth file imports this at each start of Python, since nothing else is run by all of them: kfp brings a
command of its own, so the image's entry is not. Counting takes ten times as long as this may, so that waits until
somebody is about to ask. Where the variable is set already, as in runwide's workers, nothing is done at all.
"""

import os
import sys

_COUNT = "LOKY_MAX_CPU_COUNT"
_ASKING = ("joblib", "loky")


class _Announcer:
    """Finds no module; it is asked for each before those that do."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004 - the protocol's
        """Announce the cores to a module that is about to be imported and will ask for them."""
        if name in _ASKING and _COUNT not in os.environ:
            try:
                from runwide.host.threads import announce

                announce()
            except Exception:  # noqa: S110 - an image that was broken otherwise: they count by themselves
                pass


if _COUNT not in os.environ:
    sys.meta_path.insert(0, _Announcer)  # type: ignore[arg-type]  # mypy wants what has been needless since Python 3.4
