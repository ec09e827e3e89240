"""The pipelines that `fan_out` compiles, and arguments that it rejects. No annotations as strings: kfp needs objects."""

import enum
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from as_engine import seen
from google.protobuf import json_format
from kfp import compiler, components, dsl

import runwide
from runwide.cli.encoding import without_places
from runwide.errors import FunctionNotPicklable, InputError, NoItems
from runwide.store.base import without_fields
from runwide_components import Components, Pipelines, fan_out
from runwide_components.wires import wires

STORE = "gs://bucket/runs"


def compiled(tmp_path, pipeline) -> tuple[dict, int]:
    """The spec as kfp's own loader reads it back, and the size of the file."""
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    loaded = components.load_component_from_file(str(path))
    return json_format.MessageToDict(loaded.pipeline_spec), path.stat().st_size


def pipeline_of(*args, **kwargs):
    def one(items: list) -> str:
        return fan_out(*[items if arg == "items" else arg for arg in args], **kwargs).output

    return dsl.pipeline(name="one")(one)


def scatter_inputs(spec: dict) -> dict:
    (inputs,) = [
        tasks["scatter"]["inputs"]["parameters"]
        for component in spec["components"].values()
        if "scatter" in (tasks := component.get("dag", {}).get("tasks", {}))
    ]
    return inputs


def constant(spec: dict, name: str):
    return scatter_inputs(spec)[name]["runtimeValue"]["constant"]


def test_a_spec_does_not_grow_with_the_number_of_components(tmp_path):
    sizes = {}
    for count in (1, 1000):
        pipeline = pipeline_of(lambda x: x, "items", components=count, store=STORE)
        sizes[count] = compiled(tmp_path, pipeline)[1]
    assert sizes[1000] - sizes[1] < 10
    assert sizes[1000] < 20_000


def test_a_fan_out_is_one_task_of_its_pipeline(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, "items", components=2, store=STORE))
    assert list(spec["root"]["dag"]["tasks"]) == ["fan-out-lambda"]
    assert list(spec["root"]["outputDefinitions"]["parameters"]) == ["Output"]


def test_a_fan_out_is_named_after_its_function(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of("shop.scores:Score_One", "items", components=2, store=STORE))
    assert list(spec["root"]["dag"]["tasks"]) == ["fan-out-score-one"]


def test_scatter_is_not_cached_since_its_objects_may_be_gone(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, "items", components=2, store=STORE))
    options = {
        name: task.get("cachingOptions", {}).get("enableCache", False)
        for component in spec["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }
    assert not options["scatter"]


def test_parallelism_limits_the_loop(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, "items", components=9, store=STORE, parallelism=3))
    limits = [
        task["iteratorPolicy"]["parallelismLimit"]
        for component in spec["components"].values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "iteratorPolicy" in task
    ]
    assert limits == [3]


def test_only_references_and_small_values_are_in_a_spec(tmp_path):
    table = os.urandom(200_000)
    items = [os.urandom(1000) for _ in range(100)]
    pipeline = pipeline_of(lambda x: table, items, components=2, store=str(tmp_path / "store"))
    spec, size = compiled(tmp_path, pipeline)
    assert size < 20_000
    for name in ("function", "items"):
        uri, _, digest = without_places(constant(spec, name)).partition("#sha256=")
        assert hashlib.sha256(Path(uri.removeprefix("file://")).read_bytes()).hexdigest() == digest


def test_compiling_twice_spills_a_large_function_once(tmp_path):
    table = os.urandom(200_000)

    def large(x):
        return table

    for _ in range(2):
        compiled(tmp_path, pipeline_of(large, "items", components=2, store=str(tmp_path / "store")))
    assert len(list((tmp_path / "store" / "function").iterdir())) == 1


def test_a_large_function_needs_a_store_that_is_known_when_compiling():
    table = os.urandom(200_000)

    with pytest.raises(InputError, match="not known before the run"):

        @dsl.pipeline(name="late")
        def late(store: str):
            fan_out(lambda x: table, [1], components=2, store=store)


def test_numbers_of_a_fixed_list_stay_what_they_are(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, [1, 2.0, {"a": None}], components=2, store=STORE))
    assert constant(spec, "items") == '[1, 2.0, {"a": null}]'


def test_a_local_store_is_written_out_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, "items", components=2, store="runs"))
    assert constant(spec, "store") == (tmp_path / "runs").as_uri()


def test_a_pickled_function_says_which_python_pickled_it(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(lambda x: x, "items", components=2, store=STORE))
    args = spec["deploymentSpec"]["executors"]["exec-scatter"]["container"]["args"]
    assert args[-2:] == ["--pickled-by", platform.python_version()]
    assert args[args.index("--function-name") + 1].endswith("<lambda>")
    spec, _ = compiled(tmp_path, pipeline_of("json:dumps", "items", components=2, store=STORE))
    assert "--pickled-by" not in spec["deploymentSpec"]["executors"]["exec-scatter"]["container"]["args"]


def test_a_pipeline_can_still_be_defined_after_a_fan_out_failed():
    with pytest.raises(NoItems):
        pipeline_of(lambda x: x, [], components=2, store=STORE)
    assert pipeline_of(lambda x: x, [1], components=2, store=STORE).pipeline_spec


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (("score", "items"), {}, InputError, "invalid name of a function 'score'"),
        (("a b:c", "items"), {}, InputError, "invalid name of a function"),
        ((threading.Lock().acquire, "items"), {}, FunctionNotPicklable, "pickle"),
        ((abs, []), {}, NoItems, "nothing to fan out over"),
        ((abs, {"a": 1}), {}, InputError, "items is a dict, not a list"),
        ((abs, b"xx"), {}, InputError, "items is a bytes, not a list"),
        ((abs, [1, threading.Lock()]), {}, InputError, "item 1 cannot be pickled: TypeError: .*lock"),
        ((abs, "items"), {"components": 0}, InputError, "invalid components=0"),
        ((abs, "items"), {"components": "4"}, InputError, "components='4' is a str, not a whole number"),
        ((abs, 3), {}, InputError, "items is an int, not a list"),
        ((abs, "items"), {"image": 4}, InputError, "invalid image=4: expected the name of an image"),
        ((abs, "items"), {"image": ""}, InputError, "invalid image='': expected the name of an image"),
        ((abs, "items"), {"store": "memory://x"}, InputError, "a step cannot reach this store"),
        ((abs, "items"), {"store": ""}, InputError, "invalid store=''"),
        (
            (abs, "items"),
            {"store": "gs://b/{{day}}"},
            InputError,
            "has a placeholder that no engine replaces",
        ),
        (
            (dict, "items"),
            {"constants": {"k": [threading.Lock()]}},
            InputError,
            "constant 'k' cannot be pickled",
        ),
        (
            (abs, "items"),
            {"constants": {"k": 1}},
            InputError,
            r"constants= does not fit the function: .*takes \(x, /\)",
        ),
        ((pow, "items"), {}, InputError, "missing a required argument: 'exp'"),
        (("math:pow", "items"), {"constants": {"z": 1}}, InputError, "constants= does not fit the function"),
        ((abs, "items"), {"on_error": "skip"}, InputError, "on_error='skip'"),
    ],
)
def test_an_invalid_argument_is_rejected_when_compiling(args, options, error, message):
    with pytest.raises(error, match=message):
        pipeline_of(*args, **{"components": 2, "store": STORE, **options})


def test_a_parameter_of_another_type_is_refused():
    with pytest.raises(
        InputError, match="items is a Integer of the pipeline, not a list; annotate it as list"
    ):

        @dsl.pipeline(name="wrong")
        def wrong(items: int):
            fan_out(abs, items, components=2, store=STORE)


def test_an_artifact_is_no_constant():
    @dsl.component(base_image="python:3.11")
    def make(out: dsl.Output[dsl.Dataset]):
        pass

    with pytest.raises(InputError, match="constant 'data' is an artifact"):

        @dsl.pipeline(name="wrong")
        def wrong():
            fan_out(dict, [1], components=2, store=STORE, constants={"data": make().outputs["out"]})


def test_a_task_instead_of_its_output_is_explained():
    @dsl.component(base_image="python:3.11")
    def rows() -> list:
        return [1]

    with pytest.raises(InputError, match=r"items is a task, not its output; pass its \.output"):

        @dsl.pipeline(name="wrong")
        def wrong():
            fan_out(abs, rows(), components=2, store=STORE)


def test_compiling_needs_no_client_of_google():
    code = (
        "import sys\nfrom kfp import dsl\nfrom runwide_components import fan_out\n"
        "@dsl.pipeline(name='p')\ndef p(items: list):\n    fan_out(abs, items, components=2, store='gs://b/runs')\n"
        "sys.exit('google.cloud.storage' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def executors(spec: dict) -> dict:
    return {name: one["container"] for name, one in spec["deploymentSpec"]["executors"].items()}


def test_items_are_a_uri_a_text_of_the_pipeline_or_an_artifact(tmp_path):
    @dsl.component(base_image="python:3.11")
    def make(out: dsl.Output[dsl.Dataset]):
        pass

    @dsl.pipeline(name="sources")
    def sources(where: str):
        fan_out(abs, "gs://bucket/day/*.parquet", components=2, store=STORE)
        fan_out(abs, where, components=2, store=STORE)
        fan_out(abs, make().outputs["out"], components="auto", store=STORE)

    spec, _ = compiled(tmp_path, sources)
    scatters = [
        one["args"] for one in executors(spec).values() if one.get("command") == ["runwide", "scatter"]
    ]
    assert len(scatters) == 3
    assert all("--items-from" in args for args in scatters)
    assert any("{{$.inputs.artifacts['items'].uri}}" in args for args in scatters)


def test_how_a_table_is_read_is_in_the_words_of_the_scatter_step(tmp_path):
    @dsl.component(base_image="python:3.11")
    def make(out: dsl.Output[dsl.Dataset]):
        pass

    @dsl.pipeline(name="tables")
    def tables(where: str):
        options = {"items_format": "csv", "items_types": {"zip": "str", "n": int}}
        fan_out(abs, make().outputs["out"], components=2, store=STORE, **options)
        fan_out(abs, where, components=2, store=STORE, **options)

    spec, _ = compiled(tmp_path, tables)
    scatters = [
        one["args"] for one in executors(spec).values() if one.get("command") == ["runwide", "scatter"]
    ]
    for args in scatters:
        assert args[args.index("--items-format") + 1] == "csv"
        assert json.loads(args[args.index("--items-types") + 1]) == {"zip": "str", "n": "int"}
    # the engine tells the metadata of an artifact
    assert sorted("--executor-input" in args for args in scatters) == [False, True]


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ("gs://b/x", {"items_format": "tsv"}, "items_format= is 'tsv', not a format of items"),
        ("gs://b/x", {"items_types": {"n": "complex"}}, "has 'complex' for the column 'n'"),
        ("gs://b/x", {"items_types": ["n"]}, "items_types is a list, not a dict"),
        ("gs://b/x", {"items_types": {"n": "int"}, "items_format": "json"}, "items_types= is for CSV"),
        ([1], {"items_format": "csv"}, "the items are a list"),
        ([1], {"items_types": {"n": "int"}}, "the items are a list"),
        ("gs://b/x", {"items_format": 3}, "items_format= is 3, not a format of items"),
        ("gs://b/x", {"items_format": ["csv"]}, "items_format= is a list, not a format of items"),
        ("gs://b/x", {"items_types": {1: "int"}}, "has 1 as the name of a column"),
        ("gs://b/x", {"items_types": {"n": ["int"]}}, "has a list for the column 'n'"),
        ("gs://b/x.jsonl", {"items_types": {"n": "int"}}, "for CSV, and this is jsonl"),
        ("gs://b/x.PARQUET", {"items_types": {"n": "int"}}, "for CSV, and this is parquet"),
        ("gs://b/x.json.gz", {"items_types": {"n": "int"}}, "for CSV, and this is json"),
        ("gs://b/*.csv", {"items_types": {"n": "int"}}, "the items are the names of files"),
        (f"gs://b/result.json#sha256={'0' * 64}", {"items_types": {"n": "int"}}, "the reference of results"),
        (f"gs://b/result.json#sha256={'0' * 64}", {"items_format": "csv"}, "the reference of results"),
    ],
    ids=range(16),
)
def test_invalid_options_of_tables_are_rejected(items, options, message):
    @dsl.pipeline(name="wrong")
    def wrong():
        with pytest.raises(InputError, match=message):
            fan_out(abs, items, components=1, store=STORE, **options)
        fan_out(abs, [1], components=1, store=STORE)


def test_words_about_tables_are_known_when_the_pipeline_is_compiled():
    @dsl.pipeline(name="wrong")
    def wrong(form: str, bucket: str):
        said = {"items_format": {"items_format": form}, "column 'n'": {"items_types": {"n": form}},
                "name of a column": {"items_types": {form: "str"}}}  # fmt: skip
        for message, options in said.items():
            with pytest.raises(
                InputError, match=rf"{message}.*PipelineParameterChannel|PipelineParameterChannel.*{message}"
            ):
                fan_out(abs, "gs://b/x.csv", components=1, store=STORE, **options)
        for end, message in {"x.jsonl": "this is jsonl", "*.csv": "names of files"}.items():
            with pytest.raises(InputError, match=message):
                fan_out(abs, f"gs://{bucket}/{end}", components=1, store=STORE, items_types={"n": "int"})
        fan_out(abs, f"gs://b/x.jsonl{bucket}", components=1, store=STORE, items_types={"n": "int"})
        fan_out(
            abs,
            f"gs://{bucket}/*.csv",
            components=1,
            store=STORE,
            items_types={"n": "int"},
            items_format="csv",
        )


def test_what_a_shard_asks_for_is_in_the_spec(tmp_path):
    pipeline = pipeline_of(
        abs, "items", components=2, store=STORE,
        cpu="8", memory="32G", accelerator=("NVIDIA_L4", 1), shard_retries=2,
    )  # fmt: skip
    spec, _ = compiled(tmp_path, pipeline)
    (resources,) = [one["resources"] for one in executors(spec).values() if "resources" in one]
    assert resources["resourceCpuLimit"] == "8"
    assert resources["resourceMemoryLimit"] == "32G"
    assert resources["accelerator"]["resourceType"] == "NVIDIA_L4"
    assert resources["accelerator"]["resourceCount"] == "1"
    retries = [
        task["retryPolicy"]["maxRetryCount"]
        for component in spec["components"].values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "retryPolicy" in task
    ]
    assert retries == [2]


def test_a_shard_can_be_made_another_step(tmp_path):
    def as_custom_job(shard):
        assert set(shard.component_spec.inputs) == {"job", "index", "run_key"}

        @dsl.container_component
        def custom(job: str, index: str, manifest: dsl.OutputPath(str)):
            return dsl.ContainerSpec(
                image="launcher:1", command=["launch", "--spot"], args=[job, index, manifest]
            )

        return custom

    spec, _ = compiled(tmp_path, pipeline_of(abs, "items", components=2, store=STORE, as_step=as_custom_job))
    assert [one["image"] for one in executors(spec).values()].count("launcher:1") == 1
    assert ["runwide", "shard"] not in [one["command"] for one in executors(spec).values()]


def test_results_can_be_a_dataset_as_well(tmp_path):
    @dsl.component(base_image="python:3.11")
    def use(data: dsl.Input[dsl.Dataset], result: str):
        pass

    @dsl.pipeline(name="with-dataset")
    def with_dataset():
        task = fan_out(abs, [1], components=2, store=STORE, dataset=True, min_success=0.9)
        use(data=task.outputs["dataset"], result=task.outputs["result"])

    spec, _ = compiled(tmp_path, with_dataset)
    (gather,) = [
        one["args"] for one in executors(spec).values() if one.get("command") == ["runwide", "gather"]
    ]
    assert gather[gather.index("--dataset-out") + 1] == "{{$.outputs.artifacts['dataset'].path}}"
    assert gather[-2:] == ["--min-success", "0.9"]


@pytest.mark.parametrize(
    "option", [{"cpu": "many"}, {"memory": "32 gigabytes"}, {"shard_retries": -1}, {"min_success": 2}]
)
def test_invalid_resources_are_rejected(option):
    with pytest.raises(InputError, match="invalid"):
        pipeline_of(abs, "items", components=2, store=STORE, **option)


def said(caplog):
    return [record.msg for record in caplog.records if record.msg["event"] == "secret.compiled"]


@pytest.mark.parametrize(
    "constants",
    [
        {"api_key": "abcdef"},
        {"options": {"password": "hunter2"}},
        {"url": "postgres://me:hunter2@db"},
        {"tokens": ["a"]},
    ],
)
def test_a_secret_in_the_pipeline_is_logged(constants, tmp_path, caplog):
    compiled(tmp_path, pipeline_of(dict, [1], components=1, store=STORE, constants=constants))
    (line,) = said(caplog)
    assert line["constant"] == next(iter(constants))
    assert "secrets=," in line["hint"]
    assert "hunter2" not in str(line)


def test_so_is_one_among_the_items_and_innocent_values_are_not(tmp_path, caplog):
    innocent = {"max_tokens": 512, "token_file": "/etc/x", "name": "me", "keys": [1]}
    compiled(tmp_path, pipeline_of(dict, [{"a": 1}], components=1, store=STORE, constants=innocent))
    assert said(caplog) == []
    compiled(tmp_path, pipeline_of(dict, [{"password": "hunter2"}], components=1, store=STORE))
    assert [line["items"] for line in said(caplog)] == ["items"]


def test_a_parameter_of_that_name_is_none_yet(tmp_path, caplog):
    @dsl.pipeline(name="keyed")
    def keyed(key: str):
        fan_out(dict, [1], components=1, store=STORE, constants={"api_key": key, "deep": {"password": key}})

    compiled(tmp_path, keyed)
    assert said(caplog) == []


def test_secrets_are_named_in_the_pipeline_and_not_held(tmp_path):
    name = "projects/p/secrets/api/versions/1"
    spec, _ = compiled(tmp_path, pipeline_of(abs, [1], components=1, store=STORE, secrets={"API_KEY": name}))
    for verb in ("scatter", "shard"):
        (args,) = [one["args"] for one in executors(spec).values() if one["command"] == ["runwide", verb]]
        at = args.index("--secret")
        assert args[at : at + 3] == ["--secret", "API_KEY", name]
    with pytest.raises(InputError, match="not the name of a secret in Secret Manager"):
        compiled(tmp_path, pipeline_of(abs, [1], components=1, store=STORE, secrets={"API_KEY": "value"}))


def test_the_key_of_a_run_is_made_when_it_runs(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(abs, [1], components=1, store=STORE))
    (shard,) = [one["args"] for one in executors(spec).values() if one["command"] == ["runwide", "shard"]]
    assert shard[shard.index("--run-key") + 1] == "{{$.inputs.parameters['run_key']}}"
    (scatter,) = [one["args"] for one in executors(spec).values() if one["command"] == ["runwide", "scatter"]]
    assert scatter[scatter.index("--run-key-out") + 1] == "{{$.outputs.parameters['run_key'].output_file}}"


def test_a_step_of_the_authors_own_need_not_take_it(tmp_path):
    def plain(_shard):
        @dsl.container_component
        def custom(job: str, index: str, manifest: dsl.OutputPath(str)):
            return dsl.ContainerSpec(image="mine:1", command=["run"], args=[job, index, manifest])

        return custom

    spec, _ = compiled(tmp_path, pipeline_of(abs, [1], components=1, store=STORE, as_step=plain))
    assert [one["image"] for one in executors(spec).values()].count("mine:1") == 1


class Place(str, enum.Enum):
    RUNS = STORE


class Many(enum.IntEnum):
    FOUR = 4


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (pd.DataFrame({"a": [1]}), r'a DataFrame, .* gives columns, not rows; give its rows: items.to_dict\("records"\)'),
        (pa.table({"a": [1, 2]}), r"a Table, .* gives columns, not rows; give its rows: items.to_pylist\(\)"),
        (np.array(3), "items is a ndarray, not a list; give a list"),
        ("gs://b/{day}/x.csv", r"items='gs://b/{day}/x.csv' has {day} in it, which nothing replaces; .* an f is missing"),
        ("/no/{day:%Y}/*.csv", r"has {day:%Y} in it, which nothing replaces"),
    ],
    ids=["pandas", "pyarrow", "no-dimension", "text", "pattern"],
)  # fmt: skip
def test_items_that_give_something_else_than_they_seem_to_are_refused(items, says):
    with pytest.raises(InputError, match=says):
        wires(abs, items, 2, STORE, {})


def test_a_table_in_a_folder_with_braces_is_read(tmp_path):
    (tmp_path / "{day}.jsonl").write_text("1\n")
    assert pipeline_of(abs, str(tmp_path / "{day}.jsonl"), components=2, store=STORE).pipeline_spec


@pytest.mark.parametrize("field", ["{env}", "{env.name}", "{env!r}", "{day:%Y}", "{names[0]}", "{größe}"])
def test_nothing_is_written_to_a_folder_whose_name_is_a_forgotten_field(field, tmp_path, monkeypatch):
    says = rf"has {re.escape(field)} in it, which nothing replaces; if an f is missing in front of the text"
    monkeypatch.chdir(tmp_path)
    for store in (f"gs://b/{field}/runs", f"runs/{field}"):
        for call in (
            lambda store=store: pipeline_of(abs, "items", components=2, store=store),
            lambda store=store: Components(2, store=store),
            lambda store=store: Pipelines("p.yaml", store=store),
            lambda store=store: runwide.map(abs, [1], store=store),
            lambda store=store: runwide.scatter(
                abs, [1], store=Path(store) if "gs:" not in store else store, shards=1
            ),
        ):
            with pytest.raises(InputError, match=says):
                call()
    assert list(tmp_path.iterdir()) == []


def test_other_braces_may_be_in_the_name_of_a_store():
    for name in ("{}", "{1}", "{a,b}", "{a-b}", "a}b", "{0c-4f}"):
        assert without_fields(f"gs://b/{name}") == f"gs://b/{name}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"constants": ["a"]}, "constants= is a list, not a dict of names"),
        ({"constants": "a"}, "constants= is a str, not a dict of names"),
        ({"constants": {1: "a"}}, "constants= is a dict, not a dict of names"),
        ({"store": "/tmp/a\0b"}, r"invalid store='/tmp/a\\x00b': not a path"),
        ({"components": True}, "components=True is a bool, not a whole number"),
    ],
    ids=["list", "text", "keys", "null", "bool"],
)  # fmt: skip
def test_other_arguments_of_a_wrong_type_are_refused_in_one_line(options, says):
    for function in (abs, "shop.scores:score"):
        with pytest.raises(InputError, match=says) as caught:
            pipeline_of(function, "items", **{"components": 2, "store": STORE, **options})
        assert "\n" not in str(caught.value)


def test_members_of_enums_are_the_texts_and_numbers_that_they_are(tmp_path):
    spec, _ = compiled(tmp_path, pipeline_of(abs, "items", components=Many.FOUR, store=Place.RUNS))
    assert (constant(spec, "components"), constant(spec, "store")) == (4, STORE)


@pytest.mark.parametrize(
    "option", ["parallelism", "dataset", "report", "on_error", "workers", "spot", "image"]
)
def test_options_that_are_needed_when_compiling_are_no_parameters(option):
    def run(given: str):
        fan_out(abs, [1], components=1, store=STORE, **{option: given})

    with pytest.raises(
        InputError, match=f"{option}= is a parameter of the pipeline, and its value is needed when"
    ):
        dsl.pipeline(name="run")(run)


def test_a_name_that_is_no_function_is_refused():
    with pytest.raises(InputError, match="math:pi is a float, not a function"):
        pipeline_of("math:pi", "items", components=1, store=STORE)


def test_whole_numbers_of_many_digits_arrive():
    for value in (10**5000, -(2**2001), 2**2000 - 1):
        made = wires(abs, [value], 1, STORE, {})
        assert seen(made).items == [value]
