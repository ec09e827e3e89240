"""The author's own modules arrive, in each way of compiling, with each shape of function, on each engine.

Every pair of two of these is run by ``make test``, and the rest of the product by ``make test-slow``. One program runs all
shapes of one way and engine.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import combinations, product

import pytest
from own_code import TARGETS, Client, Engines, Ways

WAYS = (
    "script", "script-elsewhere", "kfp-compile", "module", "build-script", "notebook", "command-text", "components",
    "submit", "map",
)  # fmt: skip
SHAPES = tuple(TARGETS)
ENGINES = ("subprocess", "docker", "vertex", "kubeflow")
HERE = ("subprocess", "docker")
"""Where a stored map can be finished by ``runwide shard`` in another folder."""


def engines_of(way, shape):
    """The engines on which a shape can be run in a way; a stored map has no ``code=``."""
    if way == "map":
        return () if shape == "asked-for" else HERE
    return ENGINES


PRODUCT = [(way, shape, engine) for way, shape in product(WAYS, SHAPES) for engine in engines_of(way, shape)]


def pairs():
    """Cases that contain every pair: the engine moves on with each way and each shape."""
    for (row, way), (column, shape) in product(enumerate(WAYS), enumerate(SHAPES)):
        if engines := engines_of(way, shape):
            yield way, shape, engines[(row + column) % len(engines)]


def marks_of(case):
    engine = case[2]
    found = [pytest.mark.xdist_group("vertex" if engine == "vertex" else f"own-code-{engine}")]
    found += [pytest.mark.docker] if engine == "docker" else []
    return found + ([] if case in PAIRS else [pytest.mark.slow])


PAIRS = set(pairs())
CASES = [pytest.param(*case, id="-".join(case), marks=marks_of(case)) for case in PRODUCT]


@pytest.fixture(scope="module")
def verdicts(request, gcs_server, tmp_path_factory):
    """Runs each way on each engine once, with all shapes that this session asks of it."""
    wanted = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    with ExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)  # for the steps that the servers run
        ways = Ways(Client(tmp_path_factory.mktemp("client")), Engines(request, gcs_server, stack))

        def verdict(way, shape, engine):
            shapes = [one["shape"] for one in wanted if (one["way"], one["place"]) == (way, engine)]
            return ways.verdict(way, engine, shape, shapes)

        verdict.folder = ways.client.folder
        yield verdict


@pytest.mark.parametrize(("way", "shape", "place"), CASES)
def test_own_code_arrives(way, shape, place, verdicts):
    verdict = verdicts(way, shape, place)
    assert verdict["results"] == verdict["expected"]
    assert verdict["same"], f"classes are others than the program's: {verdict}"
    users = [origin for origin in verdict["origins"] if origin.startswith(str(verdicts.folder))]
    assert not users, f"modules were found in the user's folders: {users}"


def test_every_pair_is_run():
    for first, second in combinations(range(3), 2):
        assert {(one[first], one[second]) for one in PAIRS} == {(one[first], one[second]) for one in PRODUCT}
