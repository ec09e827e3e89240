"""Write the three steps as YAML, for pipelines without runwide: ``python -m runwide_components``."""

from __future__ import annotations

from pathlib import Path

import click

from runwide import __version__
from runwide_components.steps import write_yaml


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="components/yaml")
@click.argument("image", default=f"runwide:{__version__}")
def write(folder: Path, image: str) -> None:
    """Write the steps scatter, shard and gather into FOLDER, which name IMAGE.

    \b
    Example:
        python -m runwide_components components/yaml runwide:0.1.0
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    try:
        write_yaml(folder, image)
    except OSError as error:
        raise click.ClickException(
            f"cannot write {error.filename} ({error.strerror}); give another folder"
        ) from error


if __name__ == "__main__":
    write(prog_name="python -m runwide_components")
