"""Variables, secrets, labels, and places of a fan-out's steps: as compiled, and rejected if they are invalid.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import json
import sys
from typing import List, Optional  # noqa: UP035 - as kfp's users write it

import kfp
import pytest
import yaml
from kfp import compiler, dsl

from runwide.cli.variables import composed_variables, hide_given, variables_of
from runwide.errors import InputError
from runwide.options.record import RunOptions
from runwide.redaction import redacted
from runwide_components import Components, Kubeflow, Local, Pipelines, Vertex, fan_out
from runwide_components.cli import submit_command
from runwide_components.configuration import NOTHING, StepConfiguration
from runwide_components.engines.spec import loaded
from runwide_components.engines.step_options import StepOptions
from runwide_components.resources import Resources
from runwide_components.steps import JobOptions
from runwide_components.wires import wires

STORE = "gs://bucket/runs"
SECRET = "projects/p/secrets/api"
TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
OF_KUBERNETES = {
    "secrets": {"API_KEY": ("shop", "api-key")},
    "node_selector": {"pool": "big"},
    "tolerations": [TOLERATION],
}


def squares(**options):
    @dsl.pipeline(name="squares")
    def pipeline(day: int = 3):
        fan_out(abs, [1, 2], components=2, store=STORE, **options)

    return pipeline


def documents(pipeline, tmp_path):
    """The spec and what follows it in the compiled file."""
    compiler.Compiler().compile(pipeline, str(tmp_path / "pipeline.yaml"))
    return list(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))


def containers(spec):
    """The containers of our steps, by the command that each runs."""
    found = [one["container"] for one in spec["deploymentSpec"]["executors"].values()]
    return {one["command"][1]: one for one in found if one["command"][0] == "runwide"}


def given(container, option, width=2):
    """Return the values of an option, each time that it is in the words of a step."""
    words = container["args"]
    return [tuple(words[at + 1 : at + 1 + width]) for at, word in enumerate(words) if word == option]


def test_all_three_steps_have_the_variables_and_the_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_COMPRESSION", "zstd")
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "k" * 32)
    monkeypatch.setenv("RUNWIDE_USER_PROJECT", "theirs")
    env = {"TZ": "UTC", "N": 2, "JINJA": "{{ x }}", "EMPTY": "", "RUNWIDE_USER_PROJECT": "ours"}
    (spec,) = documents(squares(env=env, secrets={"API_KEY": SECRET}), tmp_path)
    steps = containers(spec)
    assert sorted(steps) == ["gather", "scatter", "shard"]
    for container in steps.values():
        quoted = [pair for (text,) in given(container, "--env-text", 1) for pair in variables_of(text)]
        assert dict([*given(container, "--env"), *quoted]) == {
            "TZ": "UTC", "N": "2", "JINJA": "{{ x }}", "EMPTY": "", "RUNWIDE_USER_PROJECT": "ours",
            "RUNWIDE_COMPRESSION": "zstd",
        }  # fmt: skip
        assert given(container, "--secret") == [("API_KEY", f"{SECRET}/versions/latest")]
    assert "{{ x }}" not in json.dumps(spec)  # an engine might take it for its own
    assert "k" * 32 not in json.dumps(spec)


def test_parameters_in_values_are_put_together_by_the_scatter_step_for_all(tmp_path):
    @dsl.pipeline(name="squares")
    def pipeline(day: int, mode: Optional[str] = None):  # noqa: UP045 - kfp knows no other form
        with dsl.ParallelFor([1, 2]) as item:
            env = {"A": day, "B": f"d-{day}-{item}", "C": item, "D": mode, "E": "constant"}
            fan_out(abs, [1], components=1, store=STORE, env=env)

    (spec,) = documents(pipeline, tmp_path)
    steps = containers(spec)
    for verb in ("shard", "gather"):
        assert ("{{$.inputs.parameters['env']}}",) in given(steps[verb], "--env-text", 1)
    assert [name for name, _ in given(steps["scatter"], "--composed-env")] == list("ABCD")
    assert given(steps["scatter"], "--env") == [("E", "constant")]


def test_a_variable_whose_parameter_was_left_out_is_not_set():
    seen = []

    @dsl.pipeline(name="p")
    def pipeline(day: int, mode: Optional[str] = None):  # noqa: UP045 - kfp knows no other form
        seen.append(wires(abs, [1], 1, STORE, {}, env={"A": day, "B": f"d-{day}", "D": mode}))
        fan_out(abs, [1], components=1, store=STORE)

    (made,) = seen
    assert made.composed_env == ("A", "B", "D")
    texts = [(port.options[1], value) for port, value in made.all if port.options[0] == "--composed-env"]
    assert composed_variables(texts, {"given_day": "3.0"}) == [("A", "3"), ("B", "d-3")]
    with pytest.raises(InputError, match="was left out"):
        composed_variables(texts, {})


def test_a_variable_of_a_dict_or_list_is_json():
    seen = []

    @dsl.pipeline(name="p")
    def pipeline(some: dict, many: List[int]):  # noqa: UP006 - kfp keeps the type of the elements of this one alone
        seen.append(wires(abs, [1], 1, STORE, {}, env={"A": some, "B": f"m={many}"}))
        fan_out(abs, [1], components=1, store=STORE)

    texts = [(port.options[1], value) for port, value in seen[0].all if port.options[0] == "--composed-env"]
    values = {"given_some": '{"k": 1.5, "on": true}', "given_many": "[1, 2]"}
    assert composed_variables(texts, values) == [("A", '{"k": 1.5, "on": true}'), ("B", "m=[1, 2]")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": {"A B": "1"}}, "'A B' is not the name of a variable"),
        (
            {"env": {"RUNWIDE_SIGNING_KEY": "x"}},
            "would be written into the pipeline.*RUNWIDE_SIGNING_KEY_SECRET",
        ),
        ({"env": {"A": None}}, "env='A' is a NoneType, not a text"),
        ({"env": {"A": ["x"]}}, "env='A' is a list, not a text"),
        ({"env": {"A": "\0"}}, "invalid value of env="),
        ({"env": ["A=1"]}, "env= is a list, not a dict"),
        ({"env": {"A": "1"}, "secrets": {"A": SECRET}}, "A is in env= and in secrets="),
        ({"secrets": {"A": "hunter2"}}, "is not the name of a secret in Secret Manager"),
        ({"secrets": {"A": ("shop",)}}, "names no secret of Secret Manager and none of Kubernetes"),
        ({"labels": {"team": "a b"}}, "invalid label"),
        ({"labels": {"team": 1}}, "invalid label"),
        ({"node_selector": "pool=big"}, "node_selector= is a str, not a dict"),
        ({"tolerations": {"key": "gpu"}}, "not a list of dicts"),
        ({"tolerations": [{"key": "gpu", "effect": "No"}]}, "invalid toleration"),
        ({"service_account": "me, myself"}, "invalid service_account='me, myself'"),
        ({"machine_type": "n2-standard-8", "node_selector": {"a": "b"}}, "no engine supports both"),
    ],
)
def test_invalid_configuration_is_rejected(options, message):
    with pytest.raises(InputError, match=message):
        squares(**options)
    with pytest.raises(InputError, match=message):
        Components(1, store=STORE, engine=Kubeflow("http://127.0.0.1:9"), **options).check()


def test_a_value_that_looks_like_a_secret_is_logged(caplog):
    squares(env={"DB_PASSWORD": "hunter2"})
    Components(1, store=STORE, env={"DB_PASSWORD": "hunter2"})
    lines = [record.msg for record in caplog.records if record.msg["event"] == "secret.compiled"]
    assert [line["env"] for line in lines] == ["DB_PASSWORD"] * 2
    assert "hunter2" not in str(lines)


def test_options_of_kubernetes_are_in_a_separate_document_for_all_three_steps(tmp_path):
    _, platform = documents(squares(labels={"team": "shop"}, **OF_KUBERNETES), tmp_path)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert sorted(executors) == ["exec-gather", "exec-scatter", "exec-shard"]
    for one in executors.values():
        assert one["nodeSelector"]["labels"] == {"pool": "big"}
        assert one["tolerations"] == [TOLERATION]
        assert one["podMetadata"]["labels"] == {"team": "shop"}
        (secret,) = one["secretAsEnv"]
        assert (secret["secretName"], secret["keyToEnv"]) == (
            "shop",
            [{"secretKey": "api-key", "envVar": "API_KEY"}],
        )


def test_without_the_package_the_error_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.delattr(kfp, "kubernetes", raising=False)
    monkeypatch.setitem(sys.modules, "kfp.kubernetes", None)
    for option, value in OF_KUBERNETES.items():
        with pytest.raises(InputError, match=r"pip install 'runwide\[kubernetes\]'"):
            squares(**{option: value})
    squares(labels={"team": "shop"}, secrets={"A": SECRET})  # which needs none


@pytest.mark.parametrize("engine", [Vertex("shop", "europe-west1"), Local("subprocess")], ids=repr)
@pytest.mark.parametrize("option", OF_KUBERNETES)
def test_engines_without_kubernetes_refuse_it_by_name(engine, option, tmp_path):
    pipeline = squares(**{option: OF_KUBERNETES[option]})
    documents(pipeline, tmp_path)
    name = {"secrets": "Kubernetes secrets"}.get(option, f"{option}=")
    for given_as in (pipeline, tmp_path / "pipeline.yaml", str(tmp_path / "pipeline.yaml")):
        with pytest.raises(InputError, match=rf"\) does not support {name}"):
            engine.submit(given_as)
    batch = Pipelines(pipeline, engine=engine, store=str(tmp_path / "store"))
    with pytest.raises(InputError, match=rf"\) does not support {name}"):
        batch.plan([{"day": 1}])
    place = Components(1, store=STORE, engine=engine, **{option: OF_KUBERNETES[option]})
    with pytest.raises(InputError, match=rf"\) does not support {name}"):
        place.submit(abs, [1])  # before anything is stored, so the bucket need not exist


def test_vertex_refuses_what_others_ask_of_kubernetes(tmp_path):
    from kfp import kubernetes

    @dsl.container_component
    def step():
        return dsl.ContainerSpec(image="busybox", command=["true"])

    @dsl.pipeline(name="theirs")
    def pipeline():
        kubernetes.add_node_selector(step(), "pool", "big")

    with pytest.raises(InputError, match=r"does not support options of kubernetes: .* second YAML document"):
        Vertex("shop", "europe-west1").submit(pipeline)


@pytest.mark.parametrize(
    ("accounts", "theirs", "found"),
    [
        ((None, None), "engine", "engine"),
        (("a", "a"), None, "a"),
        (("a", None), "a", "a"),
        (("a", None), None, None),
        (("a", "b"), None, None),
        (("a",), "b", None),
    ],
)
def test_the_account_of_a_run_is_that_of_all_its_steps(accounts, theirs, found):
    if found:
        assert StepOptions(accounts=accounts).account(theirs, "Vertex") == found
        return
    with pytest.raises(InputError, match="a step requests service_account='a'"):
        StepOptions(accounts=accounts).account(theirs, "Vertex")


def test_labels_are_held_against_the_rules_of_the_engine():
    Kubeflow("http://127.0.0.1:9").check_steps(
        StepOptions(labels=(("team.shop/name", "A"), ("team.shop/name", "B")))
    )
    for labels, message in (
        ((("team", "Shop"),), "invalid label team=Shop"),
        ((("team", "a"), ("team", "b")), "the label team has the values a, b"),
    ):
        with pytest.raises(InputError, match=message):
            Vertex("shop", "europe-west1").check_steps(StepOptions(labels=labels))
    with pytest.raises(InputError, match="invalid label team=shop-"):
        Kubeflow("http://127.0.0.1:9").check_steps(StepOptions(labels=(("team", "shop-"),)))


def test_a_custom_job_has_labels_an_account_and_the_variables(tmp_path):
    @dsl.pipeline(name="squares")
    def pipeline(day: int):
        fan_out(
            abs, [1], components=1, store=STORE, machine_type="n2-standard-8", labels={"team": "shop"},
            service_account="steps@shop.iam.gserviceaccount.com", env={"DAY": day, "TZ": "UTC"},
        )  # fmt: skip

    (spec,) = documents(pipeline, tmp_path)
    args = spec["deploymentSpec"]["executors"]["exec-shard"]["container"]["args"]
    job = json.loads(args[args.index("--payload") + 1])
    assert job["labels"] == {"team": "shop"}
    assert job["job_spec"]["service_account"] == "steps@shop.iam.gserviceaccount.com"
    (pool,) = job["job_spec"]["worker_pool_specs"]
    assert given(pool["container_spec"], "--env") == [("TZ", "UTC")]
    assert given(pool["container_spec"], "--env-text", 1) == [("{{$.inputs.parameters['env']}}",)]


def test_a_record_that_is_not_signed_configures_nothing():
    whole = StepConfiguration.of(
        env={"TZ": "UTC"}, secrets={"A": SECRET, "B": ("shop", "key")}, labels={"team": "shop"},
        node_selector={"pool": "big"}, tolerations=[TOLERATION], service_account="steps",
    )  # fmt: skip
    about = json.loads(json.dumps(JobOptions(RunOptions(retries=2), configuration=whole).about()))
    assert JobOptions.of_record(about, vouched=True) == JobOptions(RunOptions(retries=2), configuration=whole)
    assert JobOptions.of_record(about, vouched=False) == JobOptions(
        RunOptions(retries=2), configuration=NOTHING
    )
    assert whole.given == ("env", "secrets", "labels", "node_selector", "tolerations", "service_account")


def test_the_record_of_an_earlier_release_has_none():
    about = {name: value for name, value in JobOptions().about().items() if name != "configuration"}
    assert JobOptions.of_record(about, vouched=True) == JobOptions()


def test_a_dry_run_refuses_what_the_engine_does_not_have(tmp_path, capsys):
    from runwide.cli import main

    items = tmp_path / "items.json"
    items.write_text("[1, 2]")
    where = [
        "--components",
        "1",
        "--store",
        STORE,
        "--engine",
        "vertex",
        "--project",
        "shop",
        "--location",
        "europe-west1",
    ]
    words = ["submit", "builtins:abs", str(items), *where, "--dry-run", "--image", "gcr.io/shop/runwide:1"]
    for option, message in (
        (("--node-selector", "pool=big"), "does not support node_selector="),
        (("--toleration", "gpu=yes:NoSchedule"), "does not support tolerations="),
        (("--secret", "A=shop:key"), "does not support Kubernetes secrets"),
        (("--label", "team=Shop"), "invalid label team=Shop"),
        (("--env", "hunter2"), "--env is not NAME=VALUE"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*words, *option])
        assert left.value.code == 2
        said = capsys.readouterr().err
        assert message in said
        assert "hunter2" not in said
    main_ok = [*words, "--env", "TZ=UTC", "--secret", f"A={SECRET}", "--label", "team=shop"]
    with pytest.raises(SystemExit) as left:
        main(main_ok)
    assert left.value.code in (0, None)
    assert "steps        env TZ; secrets A; labels team=shop" in capsys.readouterr().out


def test_a_pipeline_is_configured_where_it_is_compiled(tmp_path, capsys):
    from runwide.cli import main

    documents(squares(), tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["submit", str(tmp_path / "pipeline.yaml"), "sets.csv", "--store", STORE, "--env", "A=1"])
    assert left.value.code == 2
    assert "--env is for a function" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "option", "message"),
    [
        ("p.yaml", ["--code", "no-file"], "--code is for a function"),
        ("p.yaml", ["--requirements", "no-file"], "--requirements is for a function"),
        ("p.yaml", ["--image", "i:1"], "--image is for a function"),
        ("p.yaml", ["--components", "2"], "--components is for a function"),
        ("p.yaml", ["--cpu", "8"], "--cpu is for a function"),
        ("p.yaml", ["--shard-retries", "0"], "--shard-retries is for a function"),
        ("p.yaml", ["--on-error", "return"], "--on-error is for a function"),
        ("p.yaml", ["--no-wait"], "--wait is for a function"),
        ("math:sqrt", ["--components", "1", "--max-active", "2"], "--max-active is for a pipeline"),
        ("math:sqrt", ["--components", "1", "--code", "no-file"], "code='no-file' is not a module"),
        ("math:sqrt", ["--components", "1", "--code", "numpy"], "code='numpy' is an installed package"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_that_would_have_no_effect_is_refused(tmp_path, capsys, what, option, message):
    from runwide.cli import main

    (tmp_path / "items.json").write_text("[1]")
    words = ["submit", what, str(tmp_path / "items.json"), "--store", str(tmp_path / "runs"), "--dry-run"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--engine", "subprocess", *option])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_options_of_submit_are_those_of_components():
    names = {option.name for option in submit_command.params}
    assert {"env", "secret", "label", "node_selector", "toleration", "service_account"} <= names


def test_steps_on_this_machine_are_given_credentials_where_they_read_secrets(tmp_path, monkeypatch):
    (tmp_path / "adc.json").write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", raising=False)
    for options, reads in (({"secrets": {"A": SECRET}}, True), ({"env": {"A": "1"}}, False)):
        documents(squares(**options), tmp_path)
        path = tmp_path / "pipeline.yaml"
        asked = StepOptions.of(path, loaded(path))
        assert asked.secrets is reads
        files = Local("subprocess")._files_for([str(tmp_path)], secrets=asked.secrets)
        assert files == ({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "adc.json")} if reads else {})


def test_the_value_of_a_secret_that_kubernetes_has_set_is_in_no_log_line(tmp_path, monkeypatch):
    spec, _ = documents(squares(secrets={"API_KEY": ("shop", "api-key")}), tmp_path)
    env = {one["name"]: one["value"] for one in containers(spec)["shard"]["env"]}
    monkeypatch.setenv("RUNWIDE_STEP_SECRETS", env["RUNWIDE_STEP_SECRETS"])
    monkeypatch.setenv("API_KEY", "correct-horse-battery-of-kubernetes")
    hide_given()
    assert "battery-of-kubernetes" not in redacted("it is correct-horse-battery-of-kubernetes")


def test_a_label_that_is_a_parameter_is_refused():
    def pipeline(day: str):
        fan_out(abs, [1], components=1, store=STORE, labels={"day": day})

    with pytest.raises(InputError, match=r"labels\['day'\]= is a parameter of the pipeline"):
        dsl.pipeline(name="p")(pipeline)


def test_a_step_of_the_authors_own_must_take_composed_variables():
    @dsl.container_component
    def own(job: str, index: str, manifest: dsl.OutputPath(str)):
        return dsl.ContainerSpec(
            image="x", command=["runwide", "shard", job, index], args=["--manifest-out", manifest]
        )

    def pipeline(day: int):
        fan_out(abs, [1], components=1, store=STORE, env={"DAY": day}, as_step=lambda _: own)

    with pytest.raises(InputError, match="the step that as_step= returned has no input for them"):
        dsl.pipeline(name="own")(pipeline)
    assert Resources(as_step=lambda _: own).step(None) is own
