"""What a worker's interpreter runs first: it finds modules where the pool's process does, and only then can import ours.

Run as a file, so that ``ps`` shows the worker's name and not a program.
"""

import os
import sys


def boot(name: str, *descriptors: str) -> None:
    """Become the worker of that name.

    Args:
        name: Of the process.
        *descriptors: The line to the pool, the pipe that ends with it, and others that are to stay open.
    """
    # As for a program that is given with -c: neither our folder, nor a file that multiprocessing would import again.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]  # noqa: PTH120 - pathlib takes as long to load as all else here
    sys.modules["__main__"].__dict__.pop("__file__", None)
    for descriptor in descriptors:
        os.set_inheritable(int(descriptor), False)
    line, alive = int(descriptors[0]), int(descriptors[1])

    import pickle

    told = pickle.loads(_read(line, int.from_bytes(_read(line, 4), "little")))
    sys.path[:], sys.argv[:], shared = told

    from runwide.pool.worker import main

    main(name, line, alive, shared)


def _read(line: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(line, size - len(data))
        if not part:
            sys.exit(1)  # the pool is gone
        data += part
    return data


if __name__ == "__main__":
    boot(*sys.argv[1:])
