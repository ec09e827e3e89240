"""Writes the compiled steps: ``python -m runwide_components [FOLDER [IMAGE]]``, by default to components/yaml."""

from __future__ import annotations

import sys
from pathlib import Path

from runwide import __version__
from runwide_components.steps import write_yaml

if __name__ == "__main__":
    folder, image = [*sys.argv[1:], *("components/yaml", f"runwide:{__version__}")[len(sys.argv) - 1 :]]
    write_yaml(Path(folder), image)
