"""How the tasks of one call are run: every option once, from which signatures, command lines and help are made."""

# Annotations are evaluated here: what stands in them is the source of all else.
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

from runwide import option_checks
from runwide.errors import InputError
from runwide.records import TaskEvent


class Option(NamedTuple):
    """One option.

    Args:
        help: What it does, a sentence.
        read: Takes its name and a value; returns what is meant, or raises.
        default: Its value where it is not given.
        word: How the command line has it: the name of a kind that `runwide.cli.run_options` knows; None where it cannot.
        travels: Whether it goes with a job to components.
    """

    help: str
    read: Callable[[str, Any], Any]
    default: Any = None
    word: str | None = None
    travels: bool = True


class WorkerOptions(TypedDict, total=False):
    """How tasks are run, but for what workers do first, which the standard pools have as arguments of their own."""

    workers: Annotated[
        int | str | None,
        Option(
            'Worker processes, in each component; unless given one per physical core, as "per-gpu" one per NVIDIA GPU.',
            option_checks.workers,
            word="workers",
        ),
    ]
    timeout: Annotated[
        float | None,
        Option(
            "Seconds that one attempt at one item may take before its worker is stopped.",
            option_checks.seconds(least_is_0=False),
            word="seconds",
        ),
    ]
    retries: Annotated[
        int,
        Option(
            "Further attempts at an item after an exception.",
            option_checks.whole(0, by_default=0),
            0,
            word="number",
        ),
    ]
    max_crashes: Annotated[
        int,
        Option(
            "Deaths of its worker after which an item is given up.",
            option_checks.whole(1, by_default=2),
            2,
            word="number",
        ),
    ]
    max_failures: Annotated[
        int | None,
        Option(
            "Failed items that are accepted, of all workers and components together; one more stops the rest.",
            option_checks.whole(0),
            word="number",
        ),
    ]
    max_tasks: Annotated[
        int | None,
        Option(
            "Tasks after which a worker is replaced by a fresh one.", option_checks.whole(1), word="number"
        ),
    ]
    max_memory: Annotated[
        int | str | None,
        Option(
            'Resident memory, in bytes or as "2G", above which a worker is replaced by a fresh one, once it is free.',
            option_checks.size,
            word="size",
        ),
    ]
    chunksize: Annotated[
        int | None,
        Option(
            "Items that travel to a worker together; unless given, as many as their measured time allows.",
            option_checks.whole(1),
            word="number",
        ),
    ]
    grace: Annotated[
        float,
        Option(
            "Seconds that running tasks may take after SIGTERM.",
            option_checks.seconds(least_is_0=True),
            20.0,
            word="seconds",
        ),
    ]
    fresh: Annotated[
        bool,
        Option(
            "Start new workers, which end with the call, instead of using those that are kept between calls; a component's "
            "are always new.",
            option_checks.flag,
            False,
        ),
    ]


class TaskOptions(WorkerOptions, total=False):
    """How tasks are run, wherever that is; these options travel with a job."""

    initializer: Annotated[
        Callable[..., object] | None,
        Option("Called once in each worker before its first task.", option_checks.function, word="function"),
    ]
    initargs: Annotated[tuple[Any, ...], Option("Arguments of initializer.", option_checks.arguments, ())]


class Options(TaskOptions, total=False):
    """How the tasks of one call are run, with what shows them to whoever waits for it."""

    progress: Annotated[
        bool | None,
        Option(
            "Whether to show a progress bar; unless given, a bar on a terminal or in a notebook, else log lines.",
            option_checks.wanted,
            word="switch",
            travels=False,
        ),
    ]
    on_event: Annotated[
        Callable[[TaskEvent], None] | None,
        Option(
            "Called with each runwide.records.TaskEvent, on another thread; with components, as their results are stored.",
            option_checks.function,
            travels=False,
        ),
    ]


OPTIONS: Mapping[str, Option] = {name: kind.__metadata__[0] for name, kind in Options.__annotations__.items()}
"""Every option by its name."""


class Surface(NamedTuple):
    """A way to run tasks, and the options that it cannot honour.

    Args:
        name: What it is called in a message.
        refused: Why, for each option that it refuses.
    """

    name: str
    refused: Mapping[str, str]


_OF_ONE_CALL = "it is about all items of one call, and there is none: give it to runwide.map"
_NOBODY_WAITS = "nobody waits for it in a pipeline: the report and runwide status show what happens"

_ABOUT_ONE_CALL = ("max_failures", "progress", "chunksize", "grace")

MAP = Surface("map", {})
COMPONENTS = Surface("Components", {})
SHARD = Surface("shard", {})
EXECUTOR = Surface("Executor", dict.fromkeys(_ABOUT_ONE_CALL, _OF_ONE_CALL))
POOL = Surface("Pool", dict.fromkeys(_ABOUT_ONE_CALL, _OF_ONE_CALL))
_STANDARD = (EXECUTOR, POOL)  # which take what the standard library's take
PIPELINE = Surface("fan_out", {"progress": _NOBODY_WAITS, "on_event": _NOBODY_WAITS})
SUBMIT = Surface("submit", {"progress": _NOBODY_WAITS, "on_event": _NOBODY_WAITS})
SURFACES = (MAP, COMPONENTS, SHARD, EXECUTOR, POOL, PIPELINE, SUBMIT)


class RunOptions:
    """The options of one call, each of them set and checked; it cannot be changed.

    Args:
        **options: As in `Options`.

    Raises:
        TypeError: There is no such option.
        InputError: A value cannot be meant.

    Example:
        >>> chosen = RunOptions(workers=2, max_memory="1G")
        >>> chosen.workers, chosen.max_memory, chosen.retries, chosen.given()
        (2, 1000000000, 0, {'workers': 2, 'max_memory': 1000000000})
        >>> RunOptions(max_failure=1)
        Traceback (most recent call last):
        TypeError: unknown option 'max_failure'; did you mean 'max_failures'?
    """

    __slots__ = tuple(OPTIONS)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **options: Any) -> None:
        refuse_unknown(options)
        put = object.__setattr__
        for name, option in OPTIONS.items():
            put(self, name, option.read(name, options[name]) if name in options else option.default)

    @classmethod
    def on(cls, surface: Surface, options: Mapping[str, Any]) -> "RunOptions":
        """Return the options of a call, once the surface can honour them all.

        Args:
            surface: Where it runs.
            options: By name.

        Raises:
            InputError: The surface refuses one of them, by name.
        """
        refuse_unknown(options, surface)
        chosen = cls(**options)
        for name, why in surface.refused.items():
            if getattr(chosen, name) != OPTIONS[name].default:
                raise InputError(f"{surface.name} cannot honour {name}=: {why}", hint=f"leave {name}= out")
        if chosen.initargs and chosen.initializer is None and surface not in _STANDARD:
            raise InputError(
                "initargs= are those of an initializer, and there is none", hint="give initializer="
            )
        return chosen

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        return {
            name: getattr(self, name)
            for name, option in OPTIONS.items()
            if getattr(self, name) is not option.default and getattr(self, name) != option.default
        }

    def but(self, **changes: Any) -> "RunOptions":
        """Return the same with other values of some options."""
        return RunOptions(**{**self.given(), **changes})

    def words(self) -> tuple[str, ...]:
        """Return what of it a component's command line has.

        Example:
            >>> RunOptions(workers=2, retries=3, initializer=print).words()
            ('--workers', '2', '--retries', '3')
        """
        return tuple(
            word
            for name, value in self.about().items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        )

    def about(self) -> dict[str, Any]:
        """Return what of it may be written as JSON: what `words` has."""
        return {name: value for name, value in self.given().items() if _is_word(OPTIONS[name])}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"cannot assign to {name!r}: options cannot be changed; .but({name}=...) gives others"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunOptions) and self.given() == other.given()

    def __hash__(self) -> int:
        return hash(tuple(self.given()))

    def __repr__(self) -> str:
        return f"RunOptions({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def __reduce__(self) -> Any:
        return _made, (self.given(),)


def _made(options: dict[str, Any]) -> RunOptions:
    return RunOptions(**options)


def _is_word(option: Option) -> bool:
    return option.travels and option.word not in (None, "function")


_ELSEWHERE = {
    "reduce": "runwide.map, starmap and fan_out", "constants": "runwide.map, imap, amap and fan_out",
    "store": "runwide.map, imap, amap and Pool, or Components", "name": "runwide.map, imap and amap",
    "reuse": "runwide.map, imap and amap", "shards": "runwide.map and starmap", "on_error": "runwide.map, imap and amap",
}  # fmt: skip


def refuse_unknown(options: Iterable[str], surface: Surface | None = None) -> None:
    """Refuse names that are none of an option.

    Args:
        options: Names.
        surface: Of which the message lists what it takes; None for all.

    Raises:
        TypeError: One is not.
    """
    for name in options:
        if name in OPTIONS:
            continue
        if name in _ELSEWHERE:
            raise TypeError(f"unknown option {name!r} here; {_ELSEWHERE[name]} have it")
        from difflib import get_close_matches  # slow to load

        near = get_close_matches(name, OPTIONS, n=1)
        taken = sorted(OPTIONS.keys() - (surface.refused if surface else {}).keys())
        rest = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(taken)}"
        raise TypeError(f"unknown option {name!r}; {rest}")


DEFAULTS = RunOptions()
"""Nothing is given."""
