"""The records of a batch in its store, and the state of its runs from them and from the engines."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    BadReference,
    EngineError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreNotFound,
    StoreNotReadable,
)
from runwide.job.fields import text
from runwide.job.plan import near
from runwide.log import Log
from runwide.naming import kind_of
from runwide.redaction import shortened
from runwide.store import records, signing
from runwide.store.base import open_inside, open_store
from runwide.store.records import arrived_damaged
from runwide_components.batch import Batch, PipelineRun
from runwide_components.engines.base import RunState, checked_engine
from runwide_components.engines.registry import engine_recorded, run_recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runwide.store.base import Store
    from runwide_components.engines.base import Engine


_log = Log("pipelines")

_NAME = re.compile(r"runs/([0-9a-f]{1,64})/(\d{3,9})-(claimed|submitted|ended)\.json")
_RESULTS = re.compile(r"(?:^|/)[0-9a-f]-\d{8}t\d{6}-[0-9a-f]{16}(?:/|$)|(?:^|/)result(?:-[0-9a-f]+)?\.json$")
_CONSOLE = "https://console.cloud.google.com/"


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One record.

    Args:
        about: Its content; the types of the values are checked.
        vouched: True if the user's key signed it.
    """

    about: dict[str, Any]
    vouched: bool
    uri: str

    def engine(self) -> Engine:
        """Return the engine of the run, as far as the record can be trusted."""
        return engine_recorded(self.about["engine"], vouched=self.vouched, uri=self.uri)

    def logs(self) -> str:
        """Return the link to the run's page. From an unsigned record only a link to Google's console is used."""
        logs: str = self.about["logs"]
        return logs if self.vouched or logs.startswith(_CONSOLE) else ""

    def outputs(self, stores: Iterable[str]) -> dict[str, Any]:
        """Return the outputs of the run.

        A reference vouches for the results that it names. So of an unsigned record, a reference is kept only if it leads
        into a store whose results are trusted anyway.
        """
        outputs: dict[str, Any] = self.about["outputs"]
        return outputs if self.vouched else trusted(outputs, stores, self.uri)


def trusted(outputs: Mapping[str, Any], stores: Iterable[str], uri: str) -> dict[str, Any]:
    """Return the outputs of a run with an unsigned record, without those that name results in other stores."""
    roots = tuple(f"{_normal(store)}/" for store in stores if store)
    kept = {}
    for name, value in outputs.items():
        named = list(_references(value))
        foreign = [one for one in named if not _normal(one).startswith(roots)]
        if foreign:
            cause = f"the record is not signed, and {shortened(foreign[0], 200)} is not in a store of the run"
            _log.warning("output.ignored", output=name, uri=uri, cause=cause)
            continue
        if named:
            signing.believe("results that records of a batch name", uri)
        kept[name] = value
    return kept


Attempts = dict[str, dict[int, dict[str, AttemptRecord]]]


class Records:
    """The records of a batch, each written once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = store.uri.rpartition("/")[2]

    def attempts(self) -> Attempts:
        """Return all attempts by key and number, each with its records by kind, from one listing."""
        found: Attempts = {}
        try:
            names = [info.name for info in self._store.list("runs/")]
        except StoreNotFound:  # nothing was ever written there
            return found
        for name in names:
            match = _NAME.fullmatch(name)
            found_record = self._read(name, match[3]) if match else None
            if match and found_record:
                found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = found_record
        kept = {key: {number: some[number] for number in near(some)} for key, some in found.items()}
        return {key: some for key, some in kept.items() if some}

    def write(self, key: str, attempt: int, kind: str, about: Mapping[str, Any]) -> bool:
        """Write one record; return False if it exists already, and keep the old one.

        Args:
            kind: ``claimed`` before it is submitted, ``submitted`` or ``ended``.
        """
        name = f"runs/{key}/{attempt:03d}-{kind}.json"
        try:
            self._store.create(
                name, records.written("attempt", {"about": dict(about)}, owner=self._owner, place=name)
            )
        except ObjectExists:
            return False
        return True

    def end(self, key: str, attempt: int, **about: Any) -> None:
        """Write the record of the end of an attempt; an existing one is kept."""
        self.write(key, attempt, "ended", {**about, "time": time.time()})

    def _read(self, name: str, kind: str) -> AttemptRecord | None:
        uri = self._store.child_uri(name)
        try:
            found = records.read(self._store, name, "attempt", owner=self._owner)
            return AttemptRecord(_READERS[kind](found.about["about"]), found.vouched, uri)
        except ObjectNotFound:  # deleted in the meantime
            return None
        except (IntegrityError, StoreNotReadable, KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, IntegrityError) and arrived_damaged(error):
                raise
            _log.warning("record.ignored", uri=uri, cause=shortened(f"{type(error).__name__}: {error}", 300))
            return None


def _claimed(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": text(about["name"]),
        "arguments": _mapping(about["arguments"]),
        "pipeline": text(about.get("pipeline", "")),
    }


def _submitted(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run_recorded(about["run"]), "logs": text(about.get("logs", "")), "engine": _mapping(about["engine"]),
        "time": _seconds(about.get("time", 0.0)), "name": text(about["name"]),
    }  # fmt: skip


def _ended(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": RunState(about["state"]), "outputs": _mapping(about.get("outputs", {})),
        "error": text(about.get("error", "")), "seconds": _seconds(about.get("seconds", 0.0)),
    }  # fmt: skip


_READERS = {"claimed": _claimed, "submitted": _submitted, "ended": _ended}


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, not {kind_of(value)}")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:  # noqa: PLR2004 - the year 5000
        raise ValueError(f"invalid time {value!r}")
    return float(value)


def _references(value: Any) -> Iterable[str]:
    """Yield all texts in a value that name results, with a digest or without."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if "#sha256=" in one or _RESULTS.search(one):
                yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


def _normal(uri: str) -> str:
    """Return a URI in the form that stores use; an empty text, which no store begins with, for an invalid one."""
    try:
        with open_store(uri.strip()) as opened:
            return opened.uri
    except BadReference:
        return ""


_LEVELS = 2  # of a batch's folder in its store


def status_of(uri: str, *, engine: Engine | None = None) -> Batch:
    """Return all runs of a batch in the store, with the current state from the engine where they have not ended.

    Args:
        engine: The engine of the runs; None for the engine in each record.
    """
    checked_engine(engine)
    with open_inside(uri, _LEVELS) as store:
        stores = (store.uri.rsplit("/", _LEVELS)[0],)
        return Batch(
            [_current(attempts, engine, stores) for attempts in Records(store).attempts().values()],
            uri=store.uri,
        )


def cancel_all(uri: str, *, engine: Engine | None = None) -> int:
    """Cancel all runs of a batch that have not ended, of this and of other clients; return their number.

    Args:
        engine: The engine of the runs; None for the engine in each record.
    """
    checked_engine(engine)
    cancelled = 0
    with open_inside(uri, _LEVELS) as store:
        records = Records(store)
        for key, attempts in records.attempts().items():
            last = max(attempts)
            found = attempts[last]
            if "ended" in found or "submitted" not in found:
                continue
            submitted = found["submitted"]
            asked = engine or submitted.engine()
            with suppress(EngineError):  # the engine has deleted the run
                run = asked.attach(submitted.about["run"])
                if not run.state().ended:
                    run.cancel()
                    cancelled += 1
            records.end(key, last, state="cancelled")
    return cancelled


def _current(
    attempts: dict[int, dict[str, AttemptRecord]], engine: Engine | None, stores: Sequence[str]
) -> PipelineRun:
    number = max(attempts)
    found = attempts[number]
    claimed: dict[str, Any] = {"name": "", "arguments": {}, "pipeline": ""}
    if "claimed" in found:
        claimed = found["claimed"].about
    about = PipelineRun(
        claimed["name"], claimed["arguments"], attempts=number + 1, pipeline=claimed["pipeline"]
    )
    if "ended" in found:
        return ended_run(about, found, stores)
    if "submitted" not in found:
        return about
    submitted = found["submitted"]
    about = replace(about, run=submitted.about["run"], logs=submitted.logs(), started=submitted.about["time"])
    try:
        return replace(about, state=(engine or submitted.engine()).attach(about.run).state())
    except EngineError as error:
        return replace(about, state=RunState.FAILED, error=str(error))


def ended_run(about: PipelineRun, found: dict[str, AttemptRecord], stores: Sequence[str]) -> PipelineRun:
    """Return a run with the content of the record of its end."""
    ended = found["ended"]
    known = replace(
        about,
        state=ended.about["state"],
        outputs=ended.outputs(stores),
        error=ended.about["error"],
        seconds=ended.about["seconds"],
    )
    if "submitted" not in found:
        return known
    submitted = found["submitted"]
    return replace(
        known,
        name=submitted.about["name"],
        run=submitted.about["run"],
        logs=submitted.logs(),
        started=submitted.about["time"],
    )
