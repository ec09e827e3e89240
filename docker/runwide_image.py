"""In the image, set the number of cores for joblib and loky when a program first imports one of them.

The environment's .pth file imports this module at each start of Python. No other place is run by all of them: kfp replaces
the entry point of the image by its own command. Counting cores would slow down each start, so it waits until one of the
libraries is imported. If the variable is set already, as in runwide's workers, this module does nothing.
"""

import os
import sys

_COUNT = "LOKY_MAX_CPU_COUNT"
_ASKING = ("joblib", "loky")


class _Announcer:
    """A finder that finds no module, and is asked before the other finders."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004 - the protocol's
        """Set the variable if the module that is about to be imported reads it."""
        if name in _ASKING and _COUNT not in os.environ:
            try:
                from runwide.host.threads import announce

                announce()
            except Exception:  # noqa: S110 - a damaged installation; the libraries then count by themselves
                pass


if _COUNT not in os.environ:
    sys.meta_path.insert(0, _Announcer)  # type: ignore[arg-type]  # mypy wants a method that Python 3.4 made needless
