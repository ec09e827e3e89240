"""Run a pipeline in an image: a fan-out of four components and its gather, each in a container of the image.

try_pipeline.py IMAGE
"""

from __future__ import annotations

import sys
import tempfile

from kfp import dsl

import runwide
from runwide_components import Local, fan_out

ITEMS = 100


def main(image: str) -> int:
    """Run the pipeline, and return the exit code."""

    def squares(numbers: list, store: str):  # noqa: ANN202 - kfp reads the annotations below
        return fan_out(lambda x: x * x, numbers, components=4, store=store, image=image).output

    # kfp takes annotations as objects, not as strings.
    squares.__annotations__ = {"numbers": list, "store": str, "return": str}
    with tempfile.TemporaryDirectory(prefix="runwide-pipeline-") as store:
        outputs = Local("docker").run(
            dsl.pipeline(name="squares")(squares), numbers=list(range(ITEMS)), store=store
        )
        results = runwide.load(outputs["Output"])
    if results != [x * x for x in range(ITEMS)]:
        sys.exit(f"the pipeline in {image} gave {results[:5]}…")
    print(f"a pipeline of four components ran in {image}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.exit("usage: try_pipeline.py IMAGE")
    sys.exit(main(sys.argv[1]))
