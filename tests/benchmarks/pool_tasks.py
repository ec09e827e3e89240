"""The functions that the measured pools run, in a module that loads nothing, so that it adds nothing to a start."""

from __future__ import annotations

import os
import time


def nothing(_x):
    return None


def pair(x):
    return x, x


def who(_x):
    time.sleep(0.05)
    return os.getpid()


def five_milliseconds(_x):
    time.sleep(0.005)


def touch(array):
    """Read one value of each page."""
    return float(array[::512].sum())


def make(megabytes, x):
    import numpy as np

    return np.full(megabytes * 131_072, float(x))


def with_pandas(x):
    import pandas as pd

    return len(pd.Index([x]))


def die_once(path):
    """Die at the first call; at the next, return what importing pandas took.

    Args:
        path: Of a file that gets the moment of the death.
    """
    try:
        with open(path, "x") as file:  # noqa: PTH123 - pathlib is not loaded yet, and loading it takes time
            file.write(str(time.monotonic()))
        os._exit(7)
    except FileExistsError:
        began = time.monotonic()
        with_pandas(1)
        return time.monotonic() - began
