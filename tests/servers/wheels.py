"""Wheels of one module, and an index that serves them, for tests that install packages."""

from __future__ import annotations

import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def written(folder: Path, name: str, version: str, text: str, more: Mapping[str, str] | None = None) -> Path:
    """Make a wheel with one module and further files.

    Args:
        folder: The folder to write it to.
        name: The name of the distribution, and of its module.
        version: Its version.
        text: The module.
        more: Further files, by their names.
    """
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(more or {}),
    }
    record = "".join(f"{member},,\n" for member in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(member, content)
    return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """Serve the wheels of a folder as an index of packages on this machine; gives its URL.

    Args:
        folder: A folder with wheels that `written` has made.
    """
    for wheel in folder.glob("*.whl"):
        page = folder / wheel.name.partition("-")[0].replace("_", "-")
        page.mkdir(exist_ok=True)
        (page / "index.html").write_text(f'<a href="../{wheel.name}">{wheel.name}</a>')
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
