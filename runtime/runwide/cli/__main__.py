"""``python -m runwide.cli``: the command where its script is not on PATH."""

from runwide.cli import main

main()
