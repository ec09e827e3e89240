"""Jobs chain and are reduced in components: no data passes through the client or the scatter step, one value comes back."""

# No `from __future__ import annotations` here: kfp takes the annotations of a pipeline as objects.
import operator

from click.testing import CliRunner
from kfp import dsl

import runwide
from runwide.cli import cli
from runwide.job import manifest
from runwide.job.reference import parse
from runwide.store.base import open_store
from runwide_components import Components, Local, fan_out


def objects(job):
    return {info.name for info in open_store(parse(job).folder).list()}


def test_maps_on_components_chain_and_are_reduced(tmp_path):
    place = Components(2, store=str(tmp_path), engine=Local("subprocess"), progress=False)
    squares = runwide.map(lambda x: x * x, range(20), on=place)
    texts = runwide.map(lambda x: f"{x},", squares.job, on=place)
    assert texts == [f"{x * x}," for x in range(20)]
    assert manifest.read_job(texts.job).layout == manifest.read_job(squares.job).layout
    assert not [name for name in objects(texts.job) if name.startswith("items/")]
    joined = runwide.map(lambda text: text, texts.job, on=place, reduce=operator.add, name="joined")
    assert joined == "".join(texts)
    with open_store(str(tmp_path)) as store:
        tree = [info.name for info in store.list() if "/reduce/" in info.name]
    assert (
        len(tree) == 3
    )  # before this program has folded anything: both shards, and the last of them the two
    assert runwide.map(lambda text: text, texts.job, on=place, reduce=operator.add, name="joined") == joined


def test_fan_outs_chain_and_are_reduced(tmp_path):
    store = str(tmp_path)

    @dsl.pipeline(name="chains")
    def chains() -> str:
        squares = fan_out(lambda x: x * x, list(range(12)), components=2, store=store, report=False)
        return fan_out(
            lambda x, sign: [sign * x], squares.output, components=2, store=store, constants={"sign": -1},
            reduce=operator.add,
        ).output  # fmt: skip

    result = Local("subprocess").run(chains)["Output"]
    assert runwide.load(result) == [-x * x for x in range(12)]
    job = f"{parse(result).folder}/job.json"
    assert not [name for name in objects(result) if name.startswith("items/")]
    assert manifest.found_job(job).source is not None


def test_a_function_is_submitted_over_results_and_reduced(tmp_path):
    job = runwide.scatter(abs, range(-9, 0), store=str(tmp_path), shards=2)
    for index in range(2):
        runwide.shard(job, index, workers=1)
    words = [
        "submit", "math:sqrt", job, "--components", "2", "--store", str(tmp_path), "--engine", "subprocess",
        "--reduce", "operator:add",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    made, result = (line for line in done.stdout.splitlines() if "#sha256=" in line)
    assert manifest.read_job(made).source is not None
    assert runwide.load(result) == sum(x**0.5 for x in range(9, 0, -1))
