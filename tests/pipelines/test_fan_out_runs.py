"""`fan_out` inside of pipelines that run. No annotations as strings: kfp takes them as objects."""

import os
from math import sqrt

import pytest
from kfp import dsl

import runwide
from runwide.errors import StepFailed
from runwide.records import Failure
from runwide_components import Local, base_image, fan_out

# What the engine, a step's file system or its packages have no part in is tried in one of the two.
IN_SUBPROCESSES = ["subprocess"]
IN_CONTAINERS = [pytest.param("docker", marks=pytest.mark.docker)]


def lightweight(function):
    """A lightweight component in the image under test, which has kfp already."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


def test_a_list_parameter_is_fanned_out_and_gathered_in_order(local, tmp_path):
    @dsl.pipeline(name="squares")
    def squares(numbers: list, store: str) -> str:
        return fan_out(lambda x: x * x, numbers, components=3, store=store).output

    outputs = local().run(squares, numbers=list(range(10)), store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == [x * x for x in range(10)]


def test_the_list_of_an_upstream_component_is_fanned_out(local, tmp_path):
    def rows(n: int) -> list:
        return [{"x": x, "half": x / 2} for x in range(n)]

    rows = lightweight(rows)

    @dsl.pipeline(name="upstream")
    def upstream(n: int) -> str:
        made = rows(n=n)
        return fan_out(
            lambda row: (row["x"], row["half"]), made.output, components=2, store=str(tmp_path / "store")
        ).output

    results = runwide.load(local().run(upstream, n=5)["Output"])
    assert results == [(0, 0), (1, 0.5), (2, 1), (3, 1.5), (4, 2)]
    assert all(type(x) is int for x, _ in results)


@pytest.mark.parametrize("local", IN_CONTAINERS, indirect=True)
def test_a_result_is_loaded_by_a_component_that_feeds_the_next_fan_out(local, tmp_path):
    def unpack(reference: str) -> list:
        import runwide

        return runwide.load(reference)

    unpack = lightweight(unpack)

    @dsl.pipeline(name="twice")
    def twice(store: str) -> str:
        first = fan_out(lambda x: x + 1, [1, 2, 3], components=2, store=store)
        middle = unpack(reference=first.output)
        return fan_out(lambda x: x * 10, middle.output, components=3, store=store).output

    assert runwide.load(local().run(twice, store=str(tmp_path / "store"))["Output"]) == [20, 30, 40]


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
@pytest.mark.parametrize(("go", "found"), [(True, 1), (False, 0)])
def test_a_fan_out_inside_of_a_condition_runs_only_if_it_holds(local, tmp_path, go, found):
    def always() -> str:
        return "done"

    always = lightweight(always)

    @dsl.pipeline(name="conditional")
    def conditional(go: bool, store: str) -> str:
        with dsl.If(go == True):  # noqa: E712 - how kfp writes conditions
            fan_out(lambda x: -x, [1, 2], components=2, store=store)
        return always().output

    store = tmp_path / "store"
    assert local().run(conditional, go=go, store=str(store)) == {"Output": "done"}
    assert len(list(store.glob("*/job.json"))) == found


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_a_fan_out_works_in_a_pipeline_inside_of_a_pipeline(local, tmp_path):
    @dsl.pipeline(name="inner")
    def inner(numbers: list, store: str) -> str:
        return fan_out(lambda x: x - 1, numbers, components=2, store=store).output

    @dsl.pipeline(name="outer")
    def outer(store: str) -> str:
        return inner(numbers=[5, 6, 7], store=store).output

    assert runwide.load(local().run(outer, store=str(tmp_path / "store"))["Output"]) == [4, 5, 6]


def test_constants_come_from_the_pipeline_as_what_they_are(local, tmp_path):
    @dsl.pipeline(name="constants")
    def constants(day: str, k: int, f: float, flag: bool, many: list, store: str) -> str:  # noqa: PLR0917 - how kfp takes them
        given = {"day": day, "k": k, "f": f, "flag": flag, "many": many, "fixed": {"one": 1.0}}
        return fan_out(lambda x, **rest: (x, rest), [7], components=1, store=store, constants=given).output

    values = {"day": 'a "quoted" \\ day', "k": -3, "f": 2.0, "flag": False, "many": [1, "x"]}
    ((item, rest),) = runwide.load(local().run(constants, store=str(tmp_path / "store"), **values)["Output"])
    assert item == 7
    assert rest == {**values, "fixed": {"one": 1.0}}
    assert [type(rest[name]) for name in ("k", "f", "flag")] == [int, float, bool]
    assert type(rest["fixed"]["one"]) is float


def test_a_function_by_name_and_a_number_of_components_from_the_pipeline(local, tmp_path):
    @dsl.pipeline(name="named")
    def named(n: int, store: str) -> str:
        return fan_out("math:sqrt", [1, 4, 9], components=n, store=store).output

    assert runwide.load(local().run(named, n=2, store=str(tmp_path / "store"))["Output"]) == [
        sqrt(x) for x in (1, 4, 9)
    ]


def test_a_function_and_items_that_were_spilled_when_compiling_arrive(local, tmp_path):
    table = os.urandom(200_000)
    items = [f"{x:05d}" * 100 for x in range(200)]

    @dsl.pipeline(name="spilled")
    def spilled() -> str:
        return fan_out(
            lambda item: (len(table), item[:5]), items, components=2, store=str(tmp_path / "store")
        ).output

    results = runwide.load(local().run(spilled)["Output"])
    assert results == [(200_000, f"{x:05d}") for x in range(200)]


def test_all_components_of_a_loop_run_at_the_same_time(local, tmp_path, meet):
    together = meet(4)

    @dsl.pipeline(name="together")
    def pipeline(store: str) -> str:
        return fan_out(together, list(range(4)), components=4, store=store).output

    outputs = local(mounts=(meet.folder,)).run(pipeline, store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == [0, 1, 2, 3]


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_more_components_than_items_are_not_started(local, tmp_path):
    @dsl.pipeline(name="few")
    def few(store: str) -> str:
        return fan_out(lambda x: x, ["a", "b"], components=40, store=store).output

    assert runwide.load(local().run(few, store=str(tmp_path / "store"))["Output"]) == ["a", "b"]


def test_an_item_that_fails_fails_the_pipeline_and_names_itself(local, tmp_path):
    @dsl.pipeline(name="failing")
    def failing(store: str) -> str:
        return fan_out(lambda x: 1 // x, [1, 0, 2, 4], components=2, store=store).output

    with pytest.raises(StepFailed, match="item 1: ZeroDivisionError") as caught:
        local().run(failing, store=str(tmp_path / "store"))
    assert caught.value.step == "gather"
    assert caught.value.exitcode == 1


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_failed_items_can_be_results(local, tmp_path):
    @dsl.pipeline(name="tolerant")
    def tolerant(store: str) -> str:
        return fan_out(lambda x: 1 // x, [1, 0, 2], components=2, store=store, on_error="return").output

    outputs = local().run(tolerant, store=str(tmp_path / "store"))
    first, gap, last = runwide.load(outputs["Output"], on_error="return")
    assert (first, last) == (1, 0)
    assert isinstance(gap, Failure)
    assert gap.index == 1


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_an_empty_list_from_upstream_is_a_named_error(local, tmp_path):
    @dsl.pipeline(name="empty")
    def empty(numbers: list, store: str) -> str:
        return fan_out(lambda x: x, numbers, components=2, store=store).output

    with pytest.raises(StepFailed, match="scatter failed with exit code 2: runwide: NoItems"):
        local().run(empty, numbers=[], store=str(tmp_path / "store"))


@pytest.mark.parametrize("local", IN_CONTAINERS, indirect=True)
def test_two_fan_outs_in_a_row_need_nothing_between_them(local, tmp_path):
    @dsl.pipeline(name="chained")
    def chained(store: str) -> str:
        first = fan_out(lambda x: (x, {"half": x / 2}), [1, 2, 3], components=2, store=store)
        return fan_out(lambda pair: pair[1]["half"] + pair[0], first.output, components=3, store=store).output

    assert runwide.load(local().run(chained, store=str(tmp_path / "store"))["Output"]) == [1.5, 3.0, 4.5]


def test_the_rows_of_an_artifact_are_items_and_the_results_a_dataset(local, tmp_path):
    def write(out: dsl.Output[dsl.Dataset]):
        from pathlib import Path

        Path(out.path).write_text("country,days\nfr,7\nde,14\n")

    def read(data: dsl.Input[dsl.Dataset]) -> str:
        from pathlib import Path

        return Path(data.path).read_text()

    write, read = lightweight(write), lightweight(read)

    @dsl.pipeline(name="tables")
    def tables(store: str) -> str:
        task = fan_out(
            lambda row: row["country"] * (int(row["days"]) // 7), write().outputs["out"],
            components="auto", store=store, dataset=True,
        )  # fmt: skip
        return read(data=task.outputs["dataset"]).output

    assert local().run(tables, store=str(tmp_path / "store")) == {"Output": '"fr"\n"dede"\n'}


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_metadata_of_an_artifact_and_words_of_the_call_say_how_a_table_is_read(local, tmp_path):
    def write(out: dsl.Output[dsl.Dataset]):
        from pathlib import Path

        out.metadata["format"] = "csv"
        Path(out.path).write_text('"zip"\n01234\n75001\n')  # without metadata, these may be JSON lines

    write = lightweight(write)

    @dsl.pipeline(name="passed-on")
    def passed_on(store: str) -> str:
        rows = write().outputs["out"]
        doubled = fan_out(
            lambda row: {"zip": row["zip"] * 2}, rows, components=1, store=store, dataset="parquet",
            items_types={"zip": "str"},
        )  # fmt: skip
        again = fan_out(lambda row: row["zip"], doubled.dataset, components=2, store=store)
        lines = fan_out(lambda line: line, rows, components=1, store=store, items_format="jsonl")
        lines.after(again)
        return again.output

    (tmp_path / "store").mkdir()
    with pytest.raises(StepFailed, match="line 2 is not JSON"):  # leading zeros are none of JSON
        local().run(passed_on, store=str(tmp_path / "store"))
    found = [runwide.load(str(path.parent)) for path in (tmp_path / "store").glob("*/result.json")]
    assert ["0123401234", "7500175001"] in found


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
def test_rows_of_all_files_of_a_text_of_the_pipeline_are_items(local, tmp_path):
    for name, text in (("a", "\ufeff1\n"), ("b/c", '"\u2028"\nnull\n')):
        path = tmp_path / "day" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    @dsl.pipeline(name="patterns")
    def patterns(where: str, store: str) -> str:
        return fan_out(repr, where, components=2, store=store, items_format="jsonl").output

    outputs = local().run(patterns, where=f"{tmp_path}/day/**", store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == ["1", "'\\u2028'", "None"]


def test_each_file_that_matches_is_an_item(local, tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.csv").write_text("x\n" * (ord(name) - 95))

    def lines(uri):
        from pathlib import Path

        return uri[-5:], Path(uri).read_text().count("x")

    @dsl.pipeline(name="files")
    def files(store: str) -> str:
        return fan_out(lines, f"{folder}/*.csv", components=2, store=store).output

    outputs = local(mounts=(folder,)).run(files, store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == [("a.csv", 2), ("b.csv", 3), ("c.csv", 4)]


@pytest.mark.parametrize("local", IN_SUBPROCESSES, indirect=True)
@pytest.mark.parametrize(("share", "goes_on"), [(0.75, True), (0.8, False)])
def test_a_pipeline_goes_on_if_enough_items_succeeded(local, tmp_path, share, goes_on):
    @dsl.pipeline(name="enough")
    def enough(store: str) -> str:
        return fan_out(lambda x: 1 // x, [1, 0, 2, 4], components=2, store=store, min_success=share).output

    run = lambda: local().run(enough, store=str(tmp_path / "store"))
    if not goes_on:
        with pytest.raises(StepFailed, match="1 of 4 items failed"):
            run()
        return
    results = runwide.load(run()["Output"], on_error="return")
    assert [type(result) is int for result in results] == [True, False, True, True]


def test_the_results_are_a_table_of_parquet_if_so_wanted(tmp_path):
    @dsl.pipeline(name="parquet")
    def parquet(store: str) -> dsl.Dataset:
        return fan_out(
            lambda x: {"x": x, "inverse": 1 / x}, [1, 2, 0], components=2, store=store, on_error="return",
            dataset="parquet",
        ).dataset  # fmt: skip

    engine = Local("subprocess", pipeline_root=tmp_path / "root")
    (output,) = engine.run(parquet, store=str(tmp_path / "store")).values()
    from pyarrow.parquet import read_table

    rows = read_table(output["uri"]).to_pylist()
    assert rows == [{"x": 1, "inverse": 1.0}, {"x": 2, "inverse": 0.5}, {"x": None, "inverse": None}]
