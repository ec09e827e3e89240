"""``python -m runwide.cli``: the command where its script is not on PATH."""

from runwide.cli import program

if __name__ == "__main__":
    program()
