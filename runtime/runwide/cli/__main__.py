"""``python -m runwide.cli``: the command where its script is not on PATH."""

from runwide.cli import main

if __name__ == "__main__":
    main()
