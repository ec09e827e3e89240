"""The options of a call on the command line, which are made from `runwide.options`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runwide.option_checks import PER_GPU
from runwide.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class _Workers(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in the newest click
    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == PER_GPU or isinstance(value, int):
            return value
        return click.INT.convert(value, param, ctx)


_TYPES: dict[str, dict[str, Any]] = {
    "workers": {"type": _Workers(), "metavar": f"N|{PER_GPU}"},
    "number": {"type": int, "metavar": "N"},
    "seconds": {"type": float, "metavar": "SECONDS"},
    "size": {"metavar": "SIZE"},
    "switch": {"default": None},
    "function": {"metavar": "MODULE:FUNCTION"},
}


def names_on(*, but: Iterable[str] = ()) -> list[str]:
    """Return the names of the options that a command line can have.

    Args:
        but: The names of options that this command does not have.

    Example:
        >>> sorted(OPTIONS.keys() - set(names_on()))
        ['fresh', 'initargs', 'on_event']
    """
    return [name for name, option in OPTIONS.items() if option.word is not None and name not in but]


def running(*, but: Iterable[str] = (), of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of a call to a command, which takes them as keywords; an option that is not given is None.

    Args:
        but: Names of those that it has not.
        of: How the help of each begins, such as ``"Of a function"``.
    """

    def given(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names_on(but=but)):
            option = OPTIONS[name]
            word = f"--{name.replace('_', '-')}"
            if option.word == "switch":
                word += f"/--no-{name.replace('_', '-')}"
            text = f"{of}: {option.help[0].lower()}{option.help[1:]}" if of else option.help
            command = click.option(word, name, help=text, **_TYPES[option.word or ""])(command)
        return command

    return given


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call that a command was given, as keywords for calls in Python.

    Args:
        options: All keywords of the command.

    Raises:
        InputError: The initializer cannot be imported.

    Example:
        >>> chosen({"workers": 2, "timeout": None, "job": "…"})
        {'workers': 2}
    """
    found = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if isinstance(found.get("initializer"), str):
        from runwide.cli.inputs import function_of

        found["initializer"] = function_of(found["initializer"])
    return found
