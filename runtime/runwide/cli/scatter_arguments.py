"""The items, constants, store and number of shards that `runwide scatter` receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.cli import inputs, wire
from runwide.cli.given import Composed, composed, filled, refuse_unfilled
from runwide.errors import InputError
from runwide.naming import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Pairs = tuple[tuple[str, str], ...]
QUOTED = 96 * 1024
"""Most bytes of values in one argument: an engine passes all inputs of a step as one argument, and quotes them there."""

AUTO = "auto"
"""The text of ``--shards`` that asks for a measurement, see `runwide.cli.scatter`."""

_DIGEST = 43  # characters of a digest in a short reference of a shard
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
    """The options for reading a table of items.

    Args:
        form: The format, see `runwide.tables.formats`; None to find it from metadata, name or first bytes.
        types: JSON of the types of CSV columns.
        executor_input: The engine's description of the step, with the metadata of its artifacts.
        store: The store of the new job. If set, results of another job in this store become items without being read.
    """

    form: str | None = None
    types: str | None = None
    executor_input: str | None = None
    store: str | None = None

    def opened(self, found: Any) -> Any:
        """Return the items of a list, or of the table, files or job that a text names: a list or a `Chain`."""
        if not isinstance(found, str):
            inputs.refuse_table_options(self.form, self.types)
            if not isinstance(found, list):
                raise InputError(
                    f"items is {kind_of(found)}, not a list",
                    hint="give a list, or the URI of a table",
                )
            return found
        from runwide.cli import executor
        from runwide.tables import sources

        if self.store is not None and self.form is None and self.types is None:
            from runwide.job.chained import chain_if

            if (chain := chain_if(found, self.store)) is not None:
                return chain
        metadata = executor.metadata_of(self.executor_input, found)
        return sources.items_from(refuse_unfilled(found), form=self.form, types=self.types, metadata=metadata)

    def of_artifacts(self, name: str) -> list[Any]:
        """Return the URIs of the artifacts in an input of the step; with a format, the rows of all of them."""
        from runwide.cli import executor
        from runwide.tables import sources

        found = executor.artifacts_of(self.executor_input, name)
        return sources.items_of_artifacts(found, form=self.form, types=self.types)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of ``--pickled``, ``--composed`` and ``--given``.

    Args:
        pickled: Pickles of ``items`` and ``constants``.
        composed: Texts with parameters in them: ``store``, ``shards`` and ``items``.
    """

    pickled: Mapping[str, str]
    composed: Mapping[str, str]
    given: Mapping[str, str]

    @classmethod
    def of(cls, pickled: Pairs, composed: Pairs, given: Pairs) -> Arguments:
        """Make the arguments from the pairs of each option."""
        for option, pairs, known in (
            ("--pickled", pickled, ("items", "constants")),
            ("--composed", composed, ("store", "shards", "items")),
        ):
            if unknown := [what for what, _ in pairs if what not in known]:
                raise InputError(f"{option} {unknown[0]} is unknown", hint=f"it takes {', '.join(known)}")
        return cls(dict(pickled), dict(composed), dict(given))

    def text(self, what: str, value: str | None) -> str:
        """Return the text of ``--store`` or ``--shards``, from the option itself or from ``--composed``.

        Example:
            >>> arguments = Arguments.of((), (("store", '["gs://", {"name": "b", "type": "str"}]'),), (("b", "shop"),))
            >>> arguments.text("store", None)
            'gs://shop'
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
        """Return all constants by name, with `LEFT_OUT` for a parameter without a value; None if there are no constants.

        Args:
            parameter: The text of a dict parameter of a pipeline.
            typed: Name, type and text of single constants.
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
        """Return the items: a list, or a `runwide.job.chained.Chain`.

        Args:
            file: A file with a table.
            parameter: The text of a list parameter of a pipeline.
            source: The URI of a table, a pattern of files, or a reference.
            artifacts: The name of an input that is a list of artifacts.
        """
        pickled, template = self.pickled.get("items"), self.composed.get("items")
        ways = (text, file, parameter, source, artifacts, pickled, template)
        count = sum(way is not None for way in ways)
        if not count:
            raise _left_out()
        if count > 1:
            raise InputError(f"{count} options give the items", hint=f"give one of {', '.join(_WAYS)}")
        if file is not None:
            return inputs.items_of_file(file, form=table.form, types=table.types)
        if artifacts is not None:
            return table.of_artifacts(artifacts)
        if parameter is not None:
            found = wire.value_of(kind, parameter, "items")
        elif pickled is not None:
            found = filled(wire.pickled(pickled, "--pickled"), self.given)
        elif template is not None:
            found = _whole(self._composed("items", template), self.given)
        else:
            found = source if text is None else inputs.json_list(text, "--items-json")
        if found is None:
            raise _left_out()
        return table.opened(found)


def _left_out() -> InputError:
    return InputError(
        "there are no items: in a pipeline, its parameter for them was left out",
        hint=f"give that parameter a value or a default; on a command line, give one of {', '.join(_WAYS)}",
    )


def _whole(template: Composed, given: Mapping[str, str]) -> Any:
    """Return the text of a template, or the value of its only part if that is a parameter."""
    if len(template.parts) == 1 and not isinstance(template.parts[0], str):
        return template.parts[0].value(given)
    return template.text(given)


def check_shards(count: int) -> None:
    """Reject a number of shards whose references are too long for an argument of the gather step.

    Example:
        >>> check_shards(200)
    """
    size = sum(len(f'"{index}:", ') + _DIGEST for index in range(count))
    if size > QUOTED:
        raise InputError(
            f"{count} components have {size} bytes of references, and an argument of a step accepts {QUOTED} with quotes",
            hint="use fewer components, with more items in each",
        )


def shared(store: str, run_id: str | None) -> str:
    """Return the URI of a store; in a step of a pipeline, only if the other steps can find it too.

    Example:
        >>> shared("runs", None), shared("/mnt/runs", "run-1")
        ('runs', '/mnt/runs')
    """
    if run_id is not None and "://" not in store and not store.startswith(("/", "~")):
        raise InputError(
            f"the store {store!r} is a relative folder, and each step of a run has a directory of its own",
            hint="give gs://bucket/prefix, or the absolute path of a folder that all steps can access",
        )
    return store
