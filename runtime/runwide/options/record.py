"""Every option of a call, from which signatures, command lines and help are made."""

# Annotations are evaluated here: the options are read from them.
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

from runwide.errors import InputError
from runwide.events.model import TaskEvent
from runwide.options import checks


class Option(NamedTuple):
    """One option.

    Args:
        help: Its purpose, in one sentence.
        read: Takes its name and a value; returns the checked value, or raises an error.
        default: Its value if it is not given.
        word: Kind of its word on the command line, see `runwide.cli.options`; None if it has none.
        travels: True if it goes with a job to components.
    """

    help: str
    read: Callable[[str, Any], Any]
    default: Any = None
    word: str | None = None
    travels: bool = True


class WorkerOptions(TypedDict, total=False):
    """Options of tasks and workers, without the initializer: the standard pools have it as an argument of their own."""

    workers: Annotated[
        int | str | None,
        Option(
            'Worker processes, in each component; by default one per physical core. "per-gpu" starts one per NVIDIA GPU.',
            checks.workers,
            word="workers",
        ),
    ]
    timeout: Annotated[
        float | None,
        Option(
            "Seconds that one attempt at one item may take before its worker is stopped.",
            checks.seconds(least_is_0=False),
            word="seconds",
        ),
    ]
    retries: Annotated[
        int,
        Option(
            "Further attempts at an item after an exception.",
            checks.whole(0, by_default=0),
            0,
            word="number",
        ),
    ]
    max_crashes: Annotated[
        int,
        Option(
            "Deaths of its worker after which an item counts as failed.",
            checks.whole(1, by_default=2),
            2,
            word="number",
        ),
    ]
    max_failures: Annotated[
        int | None,
        Option(
            "Failed items that are accepted, of all workers and components together; one more stops the call.",
            checks.whole(0),
            word="number",
        ),
    ]
    max_tasks: Annotated[
        int | None,
        Option("Tasks after which a worker is replaced by a fresh one.", checks.whole(1), word="number"),
    ]
    max_memory: Annotated[
        int | str | None,
        Option(
            'Resident memory, in bytes or as "2G", above which a worker is replaced by a fresh one after its task.',
            checks.size,
            word="size",
        ),
    ]
    chunksize: Annotated[
        int | None,
        Option(
            "Items that travel to a worker together; by default, their number depends on their measured time.",
            checks.whole(1),
            word="number",
        ),
    ]
    grace: Annotated[
        float,
        Option(
            "Seconds that running tasks may take after SIGTERM.",
            checks.seconds(least_is_0=True),
            20.0,
            word="seconds",
        ),
    ]
    fresh: Annotated[
        bool,
        Option(
            "Start new workers, which end with the call, instead of using those that are kept between calls. Components "
            "always start new ones.",
            checks.flag,
            False,
        ),
    ]


class TaskOptions(WorkerOptions, total=False):
    """Options of tasks and workers, which travel with a job."""

    initializer: Annotated[
        Callable[..., object] | None,
        Option("Called once in each worker before its first task.", checks.function, word="function"),
    ]
    initargs: Annotated[tuple[Any, ...], Option("Arguments of initializer.", checks.arguments, ())]


class Options(TaskOptions, total=False):
    """All options of a call: those that travel, and those that show its progress to the caller."""

    progress: Annotated[
        bool | None,
        Option(
            "Show a progress bar, or nothing; by default a bar on a terminal or in a notebook, and log lines elsewhere.",
            checks.wanted,
            word="switch",
            travels=False,
        ),
    ]
    on_event: Annotated[
        Callable[[TaskEvent], None] | None,
        Option(
            "Called with each runwide.events.TaskEvent, on another thread; with components, when their events are stored.",
            checks.function,
            travels=False,
        ),
    ]


OPTIONS: Mapping[str, Option] = {name: kind.__metadata__[0] for name, kind in Options.__annotations__.items()}
"""Every option by its name."""


class Surface(NamedTuple):
    """A function, class or command that takes options, and the options that it rejects.

    Args:
        name: Its name in messages.
        refused: The reason for each option that it rejects.
    """

    name: str
    refused: Mapping[str, str]


_OF_ONE_CALL = "it is about the items of one call: give it to runwide.map"
_IN_PIPELINE = "no client waits for a pipeline: see its progress in runwide status and in the report"

_ABOUT_ONE_CALL = ("max_failures", "progress", "chunksize", "grace")

MAP = Surface("map", {})
COMPONENTS = Surface("Components", {})
SHARD = Surface("shard", {})
EXECUTOR = Surface("Executor", dict.fromkeys(_ABOUT_ONE_CALL, _OF_ONE_CALL))
POOL = Surface("Pool", dict.fromkeys(_ABOUT_ONE_CALL, _OF_ONE_CALL))
_STANDARD = (EXECUTOR, POOL)  # they take the arguments of the standard library's
PIPELINE = Surface("fan_out", {"progress": _IN_PIPELINE, "on_event": _IN_PIPELINE})
SUBMIT = Surface("submit", {"progress": _IN_PIPELINE, "on_event": _IN_PIPELINE})
SURFACES = (MAP, COMPONENTS, SHARD, EXECUTOR, POOL, PIPELINE, SUBMIT)


class RunOptions:
    """The options of one call, checked and with defaults; immutable.

    Args:
        **options: As in `Options`.

    Raises:
        TypeError: There is no such option.
        InputError: A value is invalid.

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
        """Return the options of a call, after the check that the surface honours all of them.

        Args:
            surface: The function, class or command.
            options: Values by name.

        Raises:
            InputError: The surface rejects an option, which the message names.
        """
        refuse_unknown(options, surface)
        chosen = cls(**options)
        for name, why in surface.refused.items():
            if getattr(chosen, name) != OPTIONS[name].default:
                raise InputError(f"{surface.name} does not accept {name}=: {why}", hint=f"leave {name}= out")
        if chosen.initargs and chosen.initializer is None and surface not in _STANDARD:
            raise InputError(
                "initargs= are arguments of an initializer, and initializer= is missing",
                hint="give initializer=",
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
        """Return a copy with other values of some options; only these are checked."""
        refuse_unknown(changes)
        made = object.__new__(RunOptions)
        for name, option in OPTIONS.items():
            value = option.read(name, changes[name]) if name in changes else getattr(self, name)
            object.__setattr__(made, name, value)
        return made

    def words(self) -> tuple[str, ...]:
        """Return the words for the command line of a component.

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
        """Return the options that JSON can have: those of `words`."""
        return {name: value for name, value in self.given().items() if _is_word(OPTIONS[name])}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"cannot assign to {name!r}: options are immutable; .but({name}=...) returns a copy"
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
    """Reject names of options that do not exist.

    Args:
        surface: Surface whose options the message lists; None for all.
    """
    for name in options:
        if name in OPTIONS:
            continue
        if name in _ELSEWHERE:
            raise TypeError(f"unknown option {name!r} here; it is an option of {_ELSEWHERE[name]}")
        from difflib import get_close_matches  # slow to load

        near = get_close_matches(name, OPTIONS, n=1)
        taken = sorted(OPTIONS.keys() - (surface.refused if surface else {}).keys())
        rest = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(taken)}"
        raise TypeError(f"unknown option {name!r}; {rest}")


DEFAULTS = RunOptions()
"""Options of a call that gives none."""
