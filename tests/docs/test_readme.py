"""What README shows, copied word for word, works.

Each fenced block of ``python`` or ``sh`` is run, in order, in one empty directory that they share. A block
after a comment ``<!-- not run: reason -->`` is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python": [sys.executable, "-W", "error"], "sh": ["bash", "-euo", "pipefail"]}


def blocks() -> list[re.Match[str]]:
    return [block for block in BLOCK.finditer(README.read_text()) if block["language"] in RUN]


def test_readme_shows_something_that_runs():
    assert {block["language"] for block in blocks() if not block["reason"]} == set(RUN)


def test_what_readme_shows_works(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number, block in enumerate(blocks()):
        if block["reason"]:
            continue
        program = tmp_path / f"block-{number}"
        program.write_text(block["text"])
        ran = subprocess.run(
            [*RUN[block["language"]], program.name],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, f"{block['text']}\n{ran.stdout}\n{ran.stderr}"
