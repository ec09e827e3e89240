"""Items, constants, store and number of shards of ``runwide scatter``, in each of the ways in which they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.cli import inputs, wire
from runwide.cli.given import Composed, composed, filled, refuse_unfilled
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Pairs = tuple[tuple[str, str], ...]
QUOTED = 96 * 1024
"""Bytes of values that surely fit into one argument: an engine hands all inputs of a step over in one, and quotes them."""

_DIGEST = 43  # characters of a digest in a shard's short reference
_WAYS = (
    "--items-json",
    "--items-file",
    "--items-parameter",
    "--items-from",
    "--items-artifacts",
    "--pickled items",
    "--composed items",
)


@dataclass(frozen=True, slots=True)
class Table:
    """How a table of items is read.

    Args:
        form: Its format, see `runwide.cli.formats`; None for what its metadata, its name or its first bytes tell.
        types: JSON of the types of columns of CSV.
        executor_input: The engine's description of the step, which has the metadata of its artifacts.
        store: Where the job goes, if results of a job there need not be read to be its items.
    """

    form: str | None = None
    types: str | None = None
    executor_input: str | None = None
    store: str | None = None

    def opened(self, found: Any) -> Any:
        """Return items that are a list, or those that a text names: a list, or a `runwide.job.chained.Chain`.

        Args:
            found: The list or the text.

        Raises:
            InputError: It is neither, or cannot be read.
        """
        if not isinstance(found, str):
            inputs.refuse_table_options(self.form, self.types)
            return _checked(found)
        from runwide.cli import executor, sources

        if self.store is not None and self.form is None and self.types is None:
            from runwide.job.chained import chain_if

            if (chain := chain_if(found, self.store)) is not None:
                return chain
        metadata = executor.metadata_of(self.executor_input, found)
        return sources.items_from(refuse_unfilled(found), form=self.form, types=self.types, metadata=metadata)

    def of_artifacts(self, name: str) -> list[Any]:
        """Return items that are a list of artifacts: their URIs, or the rows of all where a format is given.

        Args:
            name: Name of the step's input.

        Raises:
            InputError: There is no such input, or one of them cannot be read.
        """
        from runwide.cli import executor, sources

        found = executor.artifacts_of(self.executor_input, name)
        return sources.items_of_artifacts(found, form=self.form, types=self.types)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the step was given, beside options that say it outright.

    Args:
        pickled: Pickles of the items and the constants, by ``items`` and ``constants``.
        composed: Texts with parameters in them, by ``store``, ``shards`` and ``items``.
        given: Texts of the parameters by name.
    """

    pickled: Mapping[str, str]
    composed: Mapping[str, str]
    given: Mapping[str, str]

    @classmethod
    def of(cls, pickled: Pairs, composed: Pairs, given: Pairs) -> Arguments:
        """From the pairs of ``--pickled``, ``--composed`` and ``--given``.

        Raises:
            InputError: A pair is for something else.
        """
        for option, pairs, known in (
            ("--pickled", pickled, ("items", "constants")),
            ("--composed", composed, ("store", "shards", "items")),
        ):
            if unknown := [what for what, _ in pairs if what not in known]:
                raise InputError(f"{option} {unknown[0]} is unknown", hint=f"it takes {', '.join(known)}")
        return cls(dict(pickled), dict(composed), dict(given))

    def text(self, what: str, value: str | None) -> str:
        """The text of ``--store`` or ``--shards``, given or composed.

        Args:
            what: ``store`` or ``shards``.
            value: As the option has it.

        Raises:
            InputError: It is neither given nor composed, or both, or the engine has left a mark of kfp in it.

        Example:
            >>> told = Arguments.of((), (("store", '["gs://", {"name": "b", "type": "str"}]'),), (("b", "bucket"),))
            >>> told.text("store", None)
            'gs://bucket'
        """
        template = self.composed.get(what)
        if (value is None) == (template is None):
            raise InputError(
                f"--{what} is {'missing' if value is None else 'given twice'}",
                hint=f"give --{what} once; in a pipeline, give its parameter for it a value or a default",
            )
        return refuse_unfilled(
            value if value is not None else self._composed(what, template or "").text(self.given)
        )

    def _composed(self, what: str, template: str) -> Composed:
        return composed(template, f"--composed {what}")

    def constants(
        self, text: str | None, parameter: str | None = None, typed: Iterable[tuple[str, str, str]] = ()
    ) -> dict[str, Any] | None:
        """All constants by name, `LEFT_OUT` for a parameter without a value; None where there are none.

        Args:
            text: A JSON object of some.
            parameter: A dict parameter of a pipeline, of others.
            typed: Name, type and text of others.

        Raises:
            InputError: They cannot be read.
        """
        values = wire.pickled(self.pickled["constants"], "--pickled") if "constants" in self.pickled else None
        found = wire.constants(text, typed, values, self.given)
        return (
            found if parameter is None else {**(found or {}), **wire.value_of("dict", parameter, "constants")}
        )

    def items(
        self,
        *,
        text: str | None,
        file: Path | None,
        parameter: str | None,
        kind: str,
        source: str | None,
        artifacts: str | None = None,
        table: Table,
    ) -> Any:
        """The items: a list, or a `runwide.job.chained.Chain`.

        Args:
            text: A JSON list.
            file: A file of JSON.
            parameter: A list parameter of a pipeline.
            kind: Its type.
            source: The URI of a table, a pattern, or a reference.
            artifacts: Name of an input that is a list of artifacts.
            table: How a table is read.

        Raises:
            InputError: They are given in no way or in several, or cannot be read.
        """
        pickled, template = self.pickled.get("items"), self.composed.get("items")
        ways = (text, file, parameter, source, artifacts, pickled, template)
        count = sum(way is not None for way in ways)
        if not count:
            raise _left_out()
        if count > 1:
            raise InputError("the items are given in several ways", hint=f"give one of {', '.join(_WAYS)}")
        if parameter is not None:
            return table.opened(wire.value_of(kind, parameter, "items"))
        if pickled is not None:
            return table.opened(filled(wire.pickled(pickled, "--pickled"), self.given))
        if template is not None:
            found = _whole(self._composed("items", template), self.given)
            if found is None:
                raise _left_out()
            return table.opened(found)
        if source is not None:
            return table.opened(source)
        if artifacts is not None:
            return table.of_artifacts(artifacts)
        return inputs.items(text=text, file=file, form=table.form, types=table.types)


def _left_out() -> InputError:
    return InputError(
        "there are no items: in a pipeline, its parameter for them was left out",
        hint=f"give that parameter a value or a default; on a command line, give one of {', '.join(_WAYS)}",
    )


def _whole(template: Composed, given: Mapping[str, str]) -> Any:
    """A text, or the value of the only parameter in it."""
    if len(template.parts) == 1 and not isinstance(template.parts[0], str):
        return template.parts[0].value(given)
    return template.text(given)


def _checked(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise InputError(
            f"items is a {type(found).__name__}, not a list", hint="give a list, or the URI of a table"
        )
    return found


def check_shards(count: int) -> None:
    """Reject a number of shards whose references are too long for the step that gathers them.

    Args:
        count: How many.

    Raises:
        InputError: They are.

    Example:
        >>> check_shards(200)
    """
    size = sum(len(f'"{index}:", ') + _DIGEST for index in range(count))
    if size > QUOTED:
        raise InputError(
            f"{count} components give {size} bytes of references, and one argument of a step takes {QUOTED} with its quotes",
            hint="use fewer components, with more items in each",
        )


def shared(store: str, run_id: str | None) -> str:
    """Return the store of a job, once the other steps of its run find it as well.

    Args:
        store: Its URI.
        run_id: The pipeline's run; None where this command is no step of one.

    Raises:
        InputError: It is a folder in the step's own directory.

    Example:
        >>> shared("runs", None), shared("/mnt/runs", "run-1")
        ('runs', '/mnt/runs')
    """
    if run_id is not None and "://" not in store and not store.startswith(("/", "~")):
        raise InputError(
            f"the store {store!r} is a relative folder, and each step of a run has a directory of its own",
            hint="give gs://bucket/prefix, or a folder in full that all steps see",
        )
    return store
