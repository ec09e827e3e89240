"""Values that an engine passes to a command arrive with their types."""

from __future__ import annotations

import platform

import pytest

from runwide.cli import wire
from runwide.errors import BadReference, DigestMismatch, EnvironmentMismatch, InputError, ObjectNotFound
from runwide.store import open_store


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", '{"not": "parsed"}', '{"not": "parsed"}'),
        ("str", "", ""),
        ("int", "3", 3),
        ("int", "3.0", 3),
        ("float", "3", 3.0),
        ("float", "0.5", 0.5),
        ("bool", "true", True),
        ("list", "[1.0, [2.0], 0.5, null, true]", [1, [2], 0.5, None, True]),
        ("dict", '{"a": 1.0}', {"a": 1}),
    ],
)
def test_a_parameter_has_the_type_that_it_was_declared_with(kind, text, value):
    found = wire.value_of(kind, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "true"), ("int", "3.5"), ("float", '"x"'), ("list", "{}"), ("dict", "no"), ("set", "1")],
)
def test_a_parameter_of_another_kind_is_refused(kind, text):
    with pytest.raises(InputError, match=f"is not a {kind} of a pipeline"):
        wire.value_of(kind, text)


def test_constants_of_a_pipeline_join_those_that_are_fixed():
    typed = (("day", "str", "2013-01-01"), ("k", "float", "2"))
    assert wire.constants('{"a": 1.0, "k": 0}', typed) == {"a": 1.0, "k": 2.0, "day": "2013-01-01"}
    assert wire.constants(None, ()) is None


def test_a_text_is_read_only_if_it_is_the_one_that_was_promised(tmp_path):
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with open_store(str(tmp_path)) as store:
        store.create("items/one", b"hello")
        store.create("items/two", b"hellO")
    assert wire.object_of(f"{tmp_path}/items/one#sha256={digest}") == b"hello"
    with pytest.raises(DigestMismatch):
        wire.object_of(f"{tmp_path}/items/two#sha256={digest}")
    with pytest.raises(ObjectNotFound):
        wire.object_of(f"{tmp_path}/items/three#sha256={digest}")
    with pytest.raises(BadReference):
        wire.object_of(f"{tmp_path}/items/one")


def test_a_function_of_another_python_is_refused_before_it_is_loaded():
    wire.check_python(platform.python_version())
    with pytest.raises(EnvironmentMismatch, match=r"pickled by Python 3\.9\.1"):
        wire.check_python("3.9.1")
