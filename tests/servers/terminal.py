"""Run a program in a terminal, and read the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field

_READ = 1 << 16
_CODE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+|\x1b")


@dataclass
class Shown:
    """The output of a program to its terminal.

    Args:
        code: Its exit code.
        text: All output, with control characters.
        pieces: Pieces in order, each with its time in seconds since the start.
    """

    code: int
    text: str
    pieces: list[tuple[float, str]] = field(default_factory=list)

    def screen(self) -> list[str]:
        """Return the visible lines at the end, without empty ones."""
        return screen(self.text)


def screen(text: str) -> list[str]:
    """Return the visible lines after a text was written to a terminal, without empty ones."""
    lines, row, column = [""], 0, 0
    for found in _CODE.finditer(text):
        word, code = found[0], found[2]
        if word == "\r":
            column = 0
        elif word == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif code == "A":
            row = max(0, row - int(found[1] or 1))
        elif code is None and word != "\x1b":
            lines[row] = lines[row].ljust(column)[:column] + word + lines[row][column + len(word) :]
            column += len(word)
    return [line.rstrip() for line in lines if line.strip()]


def run(
    command: list[str], *, seconds: float = 120, columns: int = 100, on_text=None, **options: object
) -> Shown:
    """Run a program in a terminal of 24 lines.

    Args:
        command: Its words.
        seconds: The time limit.
        columns: The width that the terminal reports.
        on_text: Called with all output so far, whenever there is more.
        **options: Options of `subprocess.Popen`.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    begin, pieces = time.monotonic(), []
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **options) as process:
        os.close(theirs)
        while True:
            try:
                data = os.read(ours, _READ)
            except OSError:  # no process has the other end open
                break
            if not data:
                break
            pieces.append((time.monotonic() - begin, data.decode(errors="replace")))
            if on_text is not None:
                on_text("".join(text for _, text in pieces))
            if time.monotonic() - begin > seconds:
                process.kill()
    os.close(ours)
    return Shown(process.returncode, "".join(text for _, text in pieces), pieces)
