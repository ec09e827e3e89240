"""Write the files that the options of a command name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def write_text(path: Path | None, text: str) -> None:
    """Write a text to a file, and create its folder if necessary; do nothing if the path is None.

    Raises:
        InputError: The file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the output cannot be written ({error.strerror})", uri=str(path)) from error
