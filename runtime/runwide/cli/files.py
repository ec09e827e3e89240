"""Files that a command writes where it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path | None, text: str) -> None:
    """Write text to a file, whose folder is made if need be; nothing where no file is asked for.

    Raises:
        InputError: It cannot be written there.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the output cannot be written ({error.strerror})", uri=str(path)) from error
