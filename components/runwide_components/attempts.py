"""The records of a batch: what was submitted and how it ended, believed as far as somebody vouches for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    BadReference,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreNotFound,
    StoreNotReadable,
)
from runwide.job.fields import near, text
from runwide.log import Log
from runwide.redaction import shortened
from runwide.spill import records, signing
from runwide.spill.store import open_store
from runwide.spill.verified import arrived_damaged
from runwide_components.engines.base import RunState
from runwide_components.engines.registry import engine_recorded, run_recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.spill.store import Store
    from runwide_components.engines.base import Engine

_log = Log("pipelines")

_NAME = re.compile(r"runs/([0-9a-f]{1,64})/(\d{3,9})-(claimed|submitted|ended)\.json")
_RESULTS = re.compile(r"(?:^|/)[0-9a-f]-\d{8}t\d{6}-[0-9a-f]{16}(?:/|$)|(?:^|/)result(?:-[0-9a-f]+)?\.json$")
_CONSOLE = "https://console.cloud.google.com/"


@dataclass(frozen=True, slots=True)
class Noted:
    """One record.

    Args:
        about: What it says; each value is of the type that it must have.
        vouched: Whether the user's key has signed it.
        uri: Where it lies.
    """

    about: dict[str, Any]
    vouched: bool
    uri: str

    def engine(self) -> Engine:
        """The engine that a run was submitted to, as far as the record may be believed.

        Raises:
            EngineError: Somebody has to say more.
        """
        return engine_recorded(self.about["engine"], vouched=self.vouched, uri=self.uri)

    def logs(self) -> str:
        """A link to the run's page: one that nobody vouches for is shown only if it leads to Google's own console."""
        logs: str = self.about["logs"]
        return logs if self.vouched or logs.startswith(_CONSOLE) else ""

    def outputs(self, stores: Iterable[str]) -> dict[str, Any]:
        """What a run has put out.

        The reference of results vouches for these. So where nobody vouches for the record, one is kept only if it leads
        into a store whose results are believed anyway.

        Args:
            stores: URIs of these.
        """
        outputs: dict[str, Any] = self.about["outputs"]
        return outputs if self.vouched else believed(outputs, stores, self.uri)


def believed(outputs: Mapping[str, Any], stores: Iterable[str], uri: str) -> dict[str, Any]:
    """The outputs of a run for whose record nobody vouches: what names results elsewhere is left out.

    Args:
        outputs: All of them.
        stores: As for `Noted.outputs`.
        uri: Where the record lies.
    """
    roots = tuple(f"{_spelt(store)}/" for store in stores if store)
    kept = {}
    for name, value in outputs.items():
        named = list(_references(value))
        strange = [one for one in named if not _spelt(one).startswith(roots)]
        if strange:
            cause = f"nobody vouches for {shortened(strange[0], 200)}"
            _log.warning("output.ignored", output=name, uri=uri, cause=cause)
            continue
        if named:
            signing.believe("results that records of a batch name", uri)
        kept[name] = value
    return kept


Attempts = dict[str, dict[int, dict[str, Noted]]]


class Records:
    """What was submitted and how it ended, each written once.

    Args:
        store: The batch's folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = store.uri.rpartition("/")[2]

    def attempts(self) -> Attempts:
        """All attempts by key and number, each with what was written of it, from one listing."""
        found: Attempts = {}
        try:
            names = [info.name for info in self._store.list("runs/")]
        except StoreNotFound:  # nothing was ever written there
            return found
        for name in names:
            match = _NAME.fullmatch(name)
            noted = self._read(name, match[3]) if match else None
            if match and noted:
                found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = noted
        kept = {key: {number: some[number] for number in near(some)} for key, some in found.items()}
        return {key: some for key, some in kept.items() if some}

    def write(self, key: str, attempt: int, kind: str, about: Mapping[str, Any]) -> bool:
        """Write one record; false where there is one already, which stays.

        Args:
            key: Which run.
            attempt: Its attempt.
            kind: ``claimed`` before it is submitted, ``submitted`` or ``ended``.
            about: What to write.
        """
        name = f"runs/{key}/{attempt:03d}-{kind}.json"
        try:
            self._store.create(
                name, records.written("attempt", {"about": dict(about)}, owner=self._owner, place=name)
            )
        except ObjectExists:
            return False
        return True

    def _read(self, name: str, kind: str) -> Noted | None:
        uri = self._store.child_uri(name)
        try:
            found = records.read(self._store, name, "attempt", owner=self._owner)
            return Noted(_READERS[kind](found.about["about"]), found.vouched, uri)
        except ObjectNotFound:  # deleted in the meantime
            return None
        except (IntegrityError, StoreNotReadable, KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, IntegrityError) and arrived_damaged(error):
                raise
            _log.warning("record.ignored", uri=uri, cause=shortened(f"{type(error).__name__}: {error}", 300))
            return None


def _claimed(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": text(about["name"]), "arguments": _mapping(about["arguments"])}


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
        raise TypeError(f"a {type(value).__name__} in the place of an object")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:  # noqa: PLR2004 - the year 5000
        raise ValueError("a time that cannot be meant")
    return float(value)


def _references(value: Any) -> Iterable[str]:
    """All texts in a value that name results, with a digest or without."""
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


def _spelt(uri: str) -> str:
    """A URI in the spelling of stores; what is none begins like no store."""
    try:
        with open_store(uri.strip()) as opened:
            return opened.uri
    except BadReference:
        return ""
