"""Parameters inside of texts and values of a fan-out, and items of loops, as the scatter step composes them.

No annotations as strings: kfp takes them as objects.
"""

# ruff: noqa: UP006, UP035, UP045 - as users of kfp spell types
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional

import pytest
from as_engine import seen, words_of
from click.testing import CliRunner
from google.protobuf import json_format
from kfp import dsl

from runwide.cli import cli
from runwide.cli.encoding import value_of_bytes
from runwide.errors import InputError
from runwide.job.manifest import FUNCTION, read_job
from runwide.store import open_store
from runwide_components import fan_out
from runwide_components.engines.fitting import stores_of
from runwide_components.wires import wires

STORE = "gs://bucket/runs"


class Pair(NamedTuple):
    one: Any
    two: Any


@dataclass(frozen=True)
class Row:
    name: Any


def take(item, **constants):
    return item, constants


def defined(body, **annotations):
    """Define a pipeline, and return what its body has returned."""
    found = []

    def run(*given):
        found.append(body(*given))
        fan_out(take, [1], components=1, store=STORE)  # kfp refuses a pipeline without tasks

    def one(a):
        run(a)

    def two(a, b):
        run(a, b)

    def four(a, b, c, d):
        run(a, b, c, d)

    made = {1: one, 2: two, 4: four}[len(annotations)]
    made.__annotations__ = dict(zip("abcd", annotations.values(), strict=False))
    dsl.pipeline(name="defined")(made)
    return found[0]


def both(function, items, store=STORE, components=1, **constants):
    """Compile a fan-out, and return its wires."""
    fan_out(function, items, components=components, store=store, constants=constants)
    return wires(function, items, components, store, constants)


def test_each_parameter_in_a_text_is_written_by_its_type():
    made = defined(
        lambda n, x, flag, s: both(
            take, f"gs://{s}/{n}/*.csv", f"gs://{s}/runs-{n}-{x}-{flag}", t=f"{n}|{x}|{flag}|{s}|{n}", n=n
        ),
        n=int, x=float, flag=bool, s=str,
    )  # fmt: skip
    words = words_of(made, a=3, b=3.0, c=True, d="b-1")
    assert not any("{{channel" in word for word in words)
    made = defined(
        lambda n, x, flag, s: both(take, [f"{n}"], f"gs://{s}/runs-{n}-{x}-{flag}", t=f"{n}|{x}|{flag}|{s}|{n}", n=n),
        n=int, x=float, flag=bool, s=str,
    )  # fmt: skip
    found = seen(made, a=3, b=3.0, c=True, d="b-1")
    assert found.store == "gs://b-1/runs-3-3.0-True"
    assert found.items == ["3"]
    assert found.constants == {"t": "3|3.0|True|b-1|3", "n": 3}


def test_the_uri_of_items_is_put_together(tmp_path):
    (tmp_path / "day-3.jsonl").write_text("1\n2\n")
    made = defined(lambda n, folder: both(take, f"{folder}/day-{n}.jsonl"), n=int, folder=str)
    assert seen(made, a=3, b=str(tmp_path)).items == [1, 2]
    made = defined(lambda n, folder: both(take, f"{tmp_path}/day-{n}.json*"), n=int, folder=str)
    assert seen(made, a=3, b="x").items == [f"{tmp_path}/day-3.jsonl"]


@pytest.mark.parametrize(
    ("nest", "expected"),
    [
        (lambda n, s: [n, (n, [s])], [3, (3, ["x"])]),
        (lambda n, s: {"a": {n.name: n}, "b": s}, {"a": {"a": 3}, "b": "x"}),
        (lambda n, s: Pair(n, Row(f"{s}-{n}")), Pair(3, Row("x-3"))),
        (lambda n, s: (Row(Pair({"k": s}, n)),), (Row(Pair({"k": "x"}, 3)),)),
        (lambda n, s: {f"{s}{n}": 1}, {"x3": 1}),
        (lambda n, s: frozenset([f"{s}{n}"]), frozenset(["x3"])),
    ],
    ids=["list", "dict", "namedtuple", "dataclass", "key", "set"],
)
def test_parameters_are_found_in_values(nest, expected):
    made = defined(lambda n, s: both(take, [nest(n, s), 1], k=nest(n, s)), n=int, s=str)
    found = seen(made, a=3, b="x")
    assert found.items == [expected, 1]
    assert found.constants == {"k": expected}
    assert type(found.constants["k"]) is type(expected)


def test_typed_annotations_go_into_texts_which_kfps_own_marks_do_not_allow():
    made = defined(
        lambda many, table: both(take, [1], k=f"{many} {table}"), many=List[float], table=Dict[str, int]
    )
    assert seen(made, a=[1.0], b={"a": 1}).constants == {"k": "[1.0] {'a': 1}"}


def test_a_text_holds_the_output_of_a_task():
    @dsl.component(base_image="python:3.11")
    def make() -> int:
        return 3

    made = defined(lambda s: both(take, [1], store=f"gs://{s}/{make().output}"), s=str)
    assert seen(made, a="b", **{"make-Output": 3}).store == "gs://b/3"


@pytest.mark.parametrize(
    "mark",
    [dsl.PIPELINE_ROOT_PLACEHOLDER, dsl.PIPELINE_JOB_ID_PLACEHOLDER, dsl.PIPELINE_JOB_NAME_PLACEHOLDER],
)
def test_what_the_engine_knows_of_itself_is_an_input_of_its_own(mark):
    made = defined(
        lambda s: both(take, [f"{mark}/x", 1], store=f"{mark}/{s}", k=[mark], t=f"{mark}-{s}"), s=str
    )
    (port,) = [port for port, value in made.fixed if value == mark and port.name != "run"]
    filled = [(one, "root" if one is port else value) for one, value in made.all]
    found = seen(type(made)(tuple(filled), made.has_code), a="x")
    assert found.store == "root/x"
    assert found.items == ["root/x", 1]
    assert found.constants == {"k": ["root"], "t": "root-x"}
    with pytest.raises(InputError, match="which the engine has not filled in"):
        seen(made, a="x")


@pytest.mark.parametrize(
    "uri", ["/tmp/{{$.pipeline_root}}/x", "runs/{{channel:task=;name=a;type=String;}}", "gs://b/{{x}}"]
)
def test_no_store_has_marks_in_its_name(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="should have been replaced by a value of the pipeline"):
        open_store(uri)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_with_a_parameter_is_that_of_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = defined(lambda s: both(take, [1], store=f"runs/{s}"), s=str)
    assert seen(made, a="x").store == f"{tmp_path}/runs/x"


class Holder:
    """An object into which nothing looks."""

    def __init__(self, value):
        self.value = value


def test_a_parameter_where_nothing_looks_is_refused():
    def body(n):
        for items, constants in (
            ([Holder(n)], {}),
            ([1], {"k": Holder(f"x-{n}")}),
            ([1], {"k": Holder(dsl.PIPELINE_ROOT_PLACEHOLDER)}),
        ):
            with pytest.raises(
                InputError, match=r"contains .*pass it in constants=, alone or inside of lists"
            ):
                wires(take, items, 1, STORE, constants)
        with pytest.raises(InputError, match="the function contains a parameter of the pipeline"):
            wires(lambda item: item + n, [1], 1, STORE, {})
        with pytest.raises(InputError, match=r"a value is a task, not its output; pass its \.output"):
            wires(take, [1], 1, STORE, {"k": [make()]})
        with pytest.raises(InputError, match="a text holds 'out', which is an artifact"):
            wires(take, [f"{write().outputs['out']}"], 1, STORE, {})
        with pytest.raises(InputError, match="is an artifact, not a parameter"):
            wires(take, [1], 1, STORE, {"k": [write().outputs["out"]]})

    @dsl.component(base_image="python:3.11")
    def make() -> int:
        return 3

    @dsl.component(base_image="python:3.11")
    def write(out: dsl.Output[dsl.Dataset]):
        pass

    defined(body, n=int)


def test_an_optional_parameter_that_is_left_out_is_the_functions_default():
    made = defined(lambda n, s: both(take, [1], k=n, deep=[n], s=s), n=Optional[int], s=str)
    assert seen(made, a=None, b="x").constants == {"deep": [None], "s": "x"}
    assert seen(made, a=3, b="x").constants == {"k": 3, "deep": [3], "s": "x"}
    made = defined(lambda n, s: both(take, [1], store=f"gs://b/{n}"), n=Optional[int], s=str)
    with pytest.raises(InputError, match="was left out, and a text contains it; give it a default"):
        seen(made, a=None, b="x")


def test_types_of_items_of_an_untyped_list_follow_from_their_texts():
    def body(many):
        with dsl.ParallelFor(many) as item:
            return both(take, [1], k=item, t=f"{item}!")

    made = defined(body, many=list)
    many = ["3", 4, 2.5, "x", True, "true", {"a": [1]}, "null"]
    for item, expected in (
        (4, 4),
        (2.5, 2.5),
        ("x", "x"),
        ({"a": [1]}, {"a": [1]}),
        ("null", "null"),
        ("3", "3"),
    ):
        found = seen(made, **{"a-loop-item": item, "a": many}).constants
        assert (found, type(found["k"])) == ({"k": expected, "t": f"{expected}!"}, type(expected))
    with pytest.raises(InputError, match=r"may be a text or another value; declare the type of the elements"):
        seen(made, **{"a-loop-item": "true", "a": many})


ROWS = [{"x": 1, "y": "a", "z": [1.0], "n": 2}, {"x": "b", "y": 2.5, "z": [2.0], "n": 3}]


def test_values_of_a_loop_over_dicts_have_each_its_own_type():
    def body(s):
        with dsl.ParallelFor(ROWS) as item:
            return both(
                take,
                item.z,
                f"{s}/{item.n}",
                item.n,
                x=item.x,
                y=item.y,
                t=f"{item.x}-{item.y}",
                deep=[item.x],
            )

    made = defined(body, s=str)
    (name,) = [value.full_name for _, value in made.open if "loop-item" in value.full_name]
    for row in ROWS:
        found = seen(made, a="gs://b", **{name: row})
        assert repr(found.items) == repr(row["z"])
        assert (found.store, found.shards) == (f"gs://b/{row['n']}", str(row["n"]))
        assert repr(found.constants) == repr(
            {"x": row["x"], "y": row["y"], "t": f"{row['x']}-{row['y']}", "deep": [row["x"]]}
        )


def test_values_of_a_loop_in_a_loop_are_known_from_the_outer_one():
    def body(s):
        with (
            dsl.ParallelFor([{"rows": [{"v": 1.0}, {"v": 2.0}]}]) as outer,
            dsl.ParallelFor(outer.rows) as inner,
        ):
            return both(take, [1], v=inner.v)

    made = defined(body, s=str)
    ((_, channel),) = made.open
    assert repr(seen(made, **{channel.full_name: {"v": 2.0}}).constants) == "{'v': 2.0}"


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (
            [1, "a"],
            r"the items of the loop have several types \(int, str\), and kfp declares them by the first item",
        ),
        (
            ["x" * 140_000],
            "item 0 of the loop.* takes 140002 bytes: .*; write the items to tables, and loop over URIs",
        ),
        (
            [1, 2**53],
            r"an item of the loop.* is 9007199254740992, and engines keep whole numbers exactly only below",
        ),
    ],
)
def test_loops_that_no_engine_runs_are_refused_when_compiling(items, says):
    def body(s):
        with dsl.ParallelFor(items) as item:
            fan_out(take, [1], components=1, store=STORE)
            with pytest.raises(InputError, match=says):
                fan_out(take, [1], components=1, store=STORE, constants={"k": item})

    defined(body, s=str)


def test_values_of_a_loop_over_a_bare_list_have_each_its_own_type():
    def body(many):
        with dsl.ParallelFor(many) as item:
            return both(take, item.rows, x=item.x, deep=[item.x], t=f"{item.x}")

    made = defined(body, many=list)
    for x in ("3", 3, 2.5, True, [1, "a"], {"b": 1}):
        found = seen(made, **{"a-loop-item": {"x": x, "rows": [x]}})
        assert repr((found.items, found.constants)) == repr(([x], {"x": x, "deep": [x], "t": f"{x}"}))


def test_a_key_that_an_item_of_the_loop_lacks_is_named():
    def body(s):
        with dsl.ParallelFor([{"x": 1}, {"y": 2}]) as item:
            fan_out(take, [1], components=1, store=STORE)
            with pytest.raises(InputError, match="item 1 of the loop has no 'x'"):
                fan_out(take, [1], components=1, store=STORE, constants={"k": item.x})

    defined(body, s=str)


def test_numbers_of_a_loop_are_not_cut_to_whole_ones():
    def body(s):
        with dsl.ParallelFor([1, 2.5]) as item:
            return both(take, [1], k=item)

    made = defined(body, s=str)
    ((port, channel),) = made.open
    assert port.type is float
    assert repr([seen(made, **{channel.full_name: one}).constants["k"] for one in (1, 2.5)]) == "[1, 2.5]"


def test_the_functions_annotations_say_what_kfp_does_not():
    def scaled(item: float, by: float, many: List[float], name: str = ""):
        return item

    made = defined(lambda a, b: both(scaled, a, by=2, many=b), items=list, many=list)
    found = seen(made, a=[1, 2], b=[3])
    assert repr((found.items, found.constants)) == "([1.0, 2.0], {'by': 2, 'many': [3.0]})"


def test_the_stores_of_texts_and_loops_are_known_before_the_run(tmp_path):
    @dsl.pipeline(name="p")
    def p(base: str, n: int = 7):
        fan_out(take, [1], components=1, store=f"{base}/runs-{n}")
        fan_out(take, [1], components=1, store=f"{dsl.PIPELINE_ROOT_PLACEHOLDER}/runs")
        with dsl.If(n == 7), dsl.ParallelFor([{"place": "a"}, {"place": "b"}]) as item:
            fan_out(take, [1], components=1, store=f"{base}/{item.place}")
            fan_out(take, [1], components=1, store=item.place)

    assert not any("{{" in one for one in stores_of(p.pipeline_spec, {"base": "/tmp/{{x}}"}))
    found = list(stores_of(p.pipeline_spec, {"base": str(tmp_path)}))
    assert set(found) == {f"{tmp_path}/runs-7", f"{tmp_path}/a", f"{tmp_path}/b", "a", "b"}


def test_no_text_with_a_mark_is_left_in_a_compiled_pipeline():
    @dsl.pipeline(name="p")
    def p(bucket: str, day: str):
        fan_out(
            take,
            f"gs://{bucket}/{day}/*.csv",
            components=1,
            store=f"gs://{bucket}/runs",
            constants={"t": [f"{day}!"]},
        )

    text = str(json_format.MessageToDict(p.pipeline_spec))
    assert "{{channel" not in text
    assert "{{$.inputs.parameters['pipelinechannel" not in text


def test_collected_lists_and_one_of_several_outputs_have_their_types():
    @dsl.component(base_image="python:3.11")
    def half(x: int) -> float:
        return x / 2

    made = []

    @dsl.pipeline(name="p")
    def p(many: List[int], go: bool):
        with dsl.ParallelFor(many) as one:
            looped = half(x=one)
        halves = dsl.Collected(looped.output)
        with dsl.If(go == True):  # noqa: E712 - how kfp writes conditions
            first = half(x=1)
        with dsl.Else():
            second = half(x=2)
        either = dsl.OneOf(first.output, second.output)
        made.append(both(take, halves, k=halves, either=either, deep=[(either, halves)]))

    names = {
        value.full_name: [1.0, 2.0] if "oneof" not in value.full_name else 3.0 for _, value in made[0].open
    }
    found = seen(made[0], **names)
    assert repr(found.items) == "[1.0, 2.0]"
    assert repr(found.constants) == "{'k': [1.0, 2.0], 'either': 3.0, 'deep': [(3.0, [1.0, 2.0])]}"


def test_a_pipeline_in_a_pipeline_passes_its_parameters_on():
    made = []

    @dsl.pipeline(name="inner")
    def inner(n: Optional[int] = None, store: str = "gs://b/x"):
        made.append(both(take, [1], store=f"{store}/{n}", k=n))

    @dsl.pipeline(name="outer")
    def outer(n: int, bucket: str):
        inner(n=n, store=f"gs://{bucket}/y")
        inner()

    assert seen(made[0], n=3, store="gs://b/y").store == "gs://b/y/3"
    assert outer.pipeline_spec


class Labelled(tuple):  # noqa: SLOT001 - it has an attribute
    """A tuple whose constructor takes something else than its parts."""

    def __new__(cls, one, two):
        made = super().__new__(cls, (one, two))
        made.label = "kept"
        return made

    def __getnewargs__(self):
        return tuple(self)


def test_collections_with_methods_of_their_own_are_made_again_as_they_were():
    made = defined(lambda n: both(take, [1], k=Counter({n: 2}), t=Labelled(n, 1), s={f"{n}"}), n=int)
    found = seen(made, a=3).constants
    assert repr(found["k"]) == "Counter({3: 2})"
    assert (type(found["t"]), *found["t"], found["t"].label) == (Labelled, 3, 1, "kept")
    assert found["s"] == {"3"}


def needs(item, k):
    return item, k


def has_default(item, k=7):
    return item, k


@pytest.mark.parametrize(("function", "k"), [(needs, None), (has_default, 7)], ids=["without", "with"])
def test_a_parameter_that_is_left_out_is_the_default_or_none(function, k, tmp_path):
    made = defined(lambda n, s: both(function, [1], store=s, k=n), n=Optional[int], s=str)
    ran = CliRunner().invoke(cli, ["scatter", *words_of(made, a=None, b=str(tmp_path))])
    assert ran.exit_code == 0, ran.output
    job = read_job(ran.stdout.strip())
    with open_store(job.uri) as store:
        found = value_of_bytes(bytes(store.read(FUNCTION)))
    assert found(1) == (1, k)


def test_what_a_function_lacks_is_said_by_scatter_also_if_it_is_given_nothing_else(tmp_path):
    made = wires(needs, [1], 1, str(tmp_path), {"k": 1})
    words = words_of(type(made)(tuple(one for one in made.all if one[0].name != "constants"), made.has_code))
    ran = CliRunner().invoke(cli, ["scatter", *words, "--constants-json", "{}"])
    assert isinstance(ran.exception, InputError), ran.output
    assert "missing a required argument: 'k'" in str(ran.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values", [[1, 2.5, 3], [1, True, None], [[1], {"a": 2.5}], [1, 2], [1.0, 2.0], ["a", "3"]], ids=str
)
def test_items_of_a_loop_in_a_loop_over_values_of_the_program_have_each_its_own_type(values):
    def body(s):
        with (
            dsl.ParallelFor([{"rows": values[:-1]}, {"rows": values[-1:]}]) as outer,
            dsl.ParallelFor(outer.rows) as r,
        ):
            return both(take, [1], k=r, deep=[r])

    made = defined(body, s=str)
    (name,) = {channel.full_name for _, channel in made.open}
    for value in values:
        found = seen(
            made, **{name: str(value) if isinstance(value, bool) else value if value is not None else "null"}
        )
        assert repr(found.constants) == repr({"k": value, "deep": [value]})


def test_texts_and_other_values_in_a_loop_in_a_loop_are_refused():
    def body(s):
        with dsl.ParallelFor([{"rows": [1, "1"]}]) as outer, dsl.ParallelFor(outer.rows) as row:
            fan_out(take, [1], components=1, store=STORE)
            with pytest.raises(
                InputError, match=r"have several types \(int, str\).*; loop over dicts such as"
            ):
                fan_out(take, [1], components=1, store=STORE, constants={"k": row})

    defined(body, s=str)


@pytest.mark.parametrize(
    "mark", ["{{$}}", "{{$.inputs.parameters['a']}}", "{{$.outputs.artifacts['a'].uri}}"]
)
def test_a_mark_of_a_step_in_a_value_is_refused_with_a_way_out(mark):
    for items, constants in ([1], {"k": f"a {mark} b"}), ([mark], {}), ([1], {"k": [{"a": mark}]}):
        with pytest.raises(
            InputError, match=r"engines replace in the arguments of a step; write the text in another way"
        ):
            wires(take, items, 1, STORE, constants)
