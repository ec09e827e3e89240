"""`Pipelines`: one run of a pipeline for each set of parameters, a batch that can be taken up again."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import EngineError, InputError, RunsFailed
from runwide.log import Log
from runwide.spill.store import open_store, without_fields
from runwide_components.attempts import Records, believed
from runwide_components.batch import Batch, PipelineRun
from runwide_components.compiled import compiled
from runwide_components.engines.arguments import checked_stores
from runwide_components.engines.base import RunState
from runwide_components.engines.local import Local
from runwide_components.engines.pace import looks
from runwide_components.interrupt import wants_to_cancel
from runwide_components.parameters import Inputs, labels_of, parameter_sets, run_name, telling
from runwide_components.standing import as_it_ended, cancel_all, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide_components.attempts import Attempts
    from runwide_components.engines.base import Engine, Run

_log = Log("pipelines")
_EXCHANGE = "exchange"
_LOOKS = (0.2, 10.0)


@dataclass
class _Item:
    """One run on its way."""

    key: str
    about: PipelineRun
    attempt: int = 0
    handle: Run | None = None
    started: float = field(default_factory=time.time)
    budget: int = 0  # further attempts after a failure
    stores: Sequence[str] = ()  # whose results are believed
    doubted: str = ""  # URI of the record that names its run, where nobody vouches for that


class Pipelines:
    """Runs of one pipeline with many sets of parameters, some at a time.

    A run that has succeeded with the same pipeline and the same arguments is not run again: what became of each run is
    kept in the store, under the batch's name. So the way to take up a batch that was interrupted, to run the failed runs
    again, or to add sets of parameters, is the same call again. A pipeline counts as the same if it compiles to the same
    spec; a function in it that travels as bytecode makes it another one when it, or Python, changes.

    A pipeline with a ``str`` parameter ``exchange`` is given the URI of a `runwide.Exchange` that all runs of the batch
    share, and one with a parameter ``store`` the batch's store, each unless the sets have one.

    Args:
        pipeline: A ``@dsl.pipeline``, the path of a compiled one, or a registry's URL where the engine takes one.
        engine: What runs it; `Local` where None.
        store: Where the batch's records go: ``gs://bucket/prefix`` or a folder; ``RUNWIDE_STORE`` where None.
        name: Name of the batch; the pipeline's where None.
        max_active: How many runs may be under way at once.
        retries: How often a run that failed is submitted again.
        labels: Names of the parameters that become labels of a run; None for all scalars.
        progress: True for a table on the terminal, False for silence, None for a table only where there is a terminal.

    Raises:
        InputError: An option cannot be meant, or there is no store.

    Example:
        >>> from kfp import dsl
        >>> from runwide_components import fan_out
        >>> def powers(exponent: int, store: str):
        ...     return fan_out("math:sqrt", [1, 4], components=1, store=store).output
        >>> powers.__annotations__ = {"exponent": int, "store": str, "return": str}
        >>> with tempfile.TemporaryDirectory() as store:
        ...     batch = Pipelines(dsl.pipeline(name="powers")(powers), engine=Local("subprocess"), store=store)
        ...     runs = batch.map({"exponent": [2, 3]})
        >>> runs.summary()
        '2 succeeded'
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        engine: Engine | None = None,
        store: str | None = None,
        name: str | None = None,
        max_active: int = 8,
        retries: int = 0,
        labels: Iterable[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        if max_active < 1 or retries < 0:
            raise InputError(
                f"max_active={max_active}, retries={retries} cannot be meant",
                hint="give 1 or more, 0 or more",
            )
        self.pipeline = pipeline
        self.engine: Engine = engine or Local()
        self.store = without_fields(store or settings.read().store or "")
        if not self.store:
            raise InputError("there is no store", hint='give store="gs://bucket/runs", or set RUNWIDE_STORE')
        self.max_active = max_active
        self.retries = retries
        self.labels = None if labels is None else tuple(labels)
        self.progress = progress
        self.name = _slug(name) if name else _slug(_title(pipeline))

    def __repr__(self) -> str:
        return f"Pipelines({self.name!r}, engine={self.engine!r})"

    @property
    def uri(self) -> str:
        """URI of the batch's folder."""
        with open_store(self.store) as store:
            return store.child_uri(f"batches/{self.name}")

    def map(self, parameters: Any, *, on_error: str = "raise") -> Batch:
        """Run the pipeline for each set of parameters that has not succeeded yet, and wait for all.

        Args:
            parameters: As `parameter_sets` takes them: a list, a grid, a CSV file, a DataFrame.
            on_error: ``"raise"`` once all have ended, or ``"return"`` the failed runs among the others.

        Raises:
            RunsFailed: Some runs have failed; ``error.runs`` is the batch.
            InputError: The parameters do not fit the pipeline.
        """
        if on_error not in ("raise", "return"):
            raise InputError(f"on_error={on_error!r} cannot be meant", hint='say "raise" or "return"')
        with self._prepared(parameters) as (path, items, records):
            self._run(path, items, records)
        batch = Batch([item.about for item in items])
        if on_error == "raise" and batch.failed:
            named = "; ".join(f"{run.name}: {run.error or run.state.value}" for run in batch.failed[:5])
            raise RunsFailed(
                f"{len(batch.failed)} of {len(batch)} runs did not succeed: {named}",
                runs=batch,
                uri=self.uri,
                hint="the same call again runs only those",
            )
        return batch

    def plan(self, parameters: Any) -> Batch:
        """What `map` would do: the runs with their names, those that would not be run again among them."""
        with self._prepared(parameters) as (_, items, _records):
            return Batch([item.about for item in items])

    def status(self) -> Batch:
        """All runs of the batch that the store knows of; see `status_of`."""
        return status_of(self.uri, engine=self.engine)

    def cancel(self) -> int:
        """Cancel all runs of the batch that have not ended, whoever submitted them; see `cancel_all`."""
        return cancel_all(self.uri, engine=self.engine)

    @contextmanager
    def _prepared(self, parameters: Any) -> Iterator[tuple[Any, list[_Item], Records]]:
        with (
            tempfile.TemporaryDirectory(prefix="runwide-batch-") as folder,
            open_store(self.store) as root,
            root.sub(f"batches/{self.name}") as store,
        ):
            path, digest, loaded = compiled(self.pipeline, Path(folder), self.engine)
            inputs = None if loaded is None else Inputs.of(loaded)
            records = Records(store)
            sets = parameter_sets(self._with_shared(parameters, inputs), inputs)
            stores = [self._stores(loaded, one, number) for number, one in enumerate(sets)]
            known = records.attempts()
            items = [self._item(one, digest, known, places) for one, places in zip(sets, stores, strict=True)]
            yield path, items, records

    def _stores(self, loaded: Any, arguments: dict[str, Any], number: int) -> list[str]:
        found = [self.store, *checked_stores(loaded, arguments, f"set of parameters {number}: ")]
        self.engine.examine(loaded, arguments, stores=[_store_of(arguments, self.store)])
        return found

    def _with_shared(self, parameters: Any, inputs: Inputs | None) -> Any:
        shared = {_EXCHANGE: f"{self.uri}/{_EXCHANGE}", "store": self.store}
        wanted = {name: uri for name, uri in shared.items() if inputs and inputs.kinds.get(name) == "str"}
        relaxed = None if inputs is None else Inputs(inputs.kinds, inputs.required - wanted.keys())
        return [{**wanted, **one} for one in parameter_sets(parameters, relaxed)]

    def _item(self, arguments: dict[str, Any], digest: str, known: Attempts, stores: Sequence[str]) -> _Item:
        key = _key(digest, arguments)
        attempts = known.get(key, {})
        number = max(attempts, default=0)
        last = attempts.get(number, {})
        shown = {name: value for name, value in arguments.items() if name not in (_EXCHANGE, "store")}
        about = PipelineRun(run_name(self.name, shown, key, number), arguments)
        if "ended" not in last:
            if "submitted" not in last:
                return _Item(key, about, number)
            submitted = last["submitted"]
            doubted = "" if submitted.vouched else submitted.uri
            run = submitted.about["run"]
            return _Item(key, replace(about, run=run), number, stores=stores, doubted=doubted)
        if last["ended"].about["state"] is RunState.SUCCEEDED:
            ended = as_it_ended(about, last, stores)
            return _Item(key, replace(ended, attempts=number + 1, reused=True), number)
        return _Item(key, replace(about, name=run_name(self.name, shown, key, number + 1)), number + 1)

    def _run(self, path: Any, items: list[_Item], records: Records) -> None:
        waiting = deque(item for item in items if not item.about.reused)
        active: list[_Item] = []
        for item in items:
            item.budget = self.retries
        with _shown(items, progress=self.progress) as show, self._cancelling(active, records):
            for pause in looks(*_LOOKS):
                while waiting and len(active) < self.max_active:
                    item = waiting.popleft()
                    active.append(item)
                    self._start(path, item, records)
                for item in list(active):
                    if self._has_ended(item, records):
                        active.remove(item)
                        if item.about.state is RunState.FAILED and item.budget > 0:
                            item.budget -= 1
                            waiting.append(self._again(item))
                show()
                if not waiting and not active:
                    return
                time.sleep(pause)

    def _start(self, path: Any, item: _Item, records: Records) -> None:
        if item.about.run:  # somebody has submitted it before
            try:
                item.handle = self.engine.attach(item.about.run)
            except EngineError as error:
                _log.warning("run.lost", run=item.about.run, cause=error.message)
                records.write(
                    item.key,
                    item.attempt,
                    "ended",
                    {"state": "failed", "error": "it was lost", "time": time.time()},
                )
                self._again(item)
            else:
                item.about = replace(
                    item.about, state=RunState.RUNNING, attempts=item.attempt + 1, started=item.started
                )
                return
        arguments = item.about.arguments
        labels = {
            **labels_of(arguments if self.labels else telling(arguments), self.labels),
            "runwide-batch": self.name[:63],
        }
        item.started = time.time()
        records.write(item.key, item.attempt, "claimed", {"arguments": arguments, "name": item.about.name})
        try:
            item.handle = self.engine.submit(
                path, arguments, store=_store_of(arguments, self.store), name=item.about.name, labels=labels
            )
        except EngineError as error:
            item.about = replace(
                item.about, state=RunState.FAILED, error=str(error), attempts=item.attempt + 1
            )
            return
        item.about = replace(
            item.about,
            state=RunState.RUNNING,
            run=item.handle.id,
            logs=item.handle.logs,
            attempts=item.attempt + 1,
            started=item.started,
        )
        about = {
            "run": item.handle.id, "logs": item.handle.logs, "engine": self.engine.about(), "time": item.started,
            "name": item.about.name, "arguments": arguments,
        }  # fmt: skip
        records.write(item.key, item.attempt, "submitted", about)

    def _again(self, item: _Item) -> _Item:
        _close(item)
        item.doubted = ""
        item.attempt += 1
        shown = {
            name: value for name, value in item.about.arguments.items() if name not in (_EXCHANGE, "store")
        }
        name = run_name(self.name, shown, item.key, item.attempt)
        item.about = PipelineRun(name, item.about.arguments, attempts=item.attempt)
        return item

    def _has_ended(self, item: _Item, records: Records) -> bool:
        if item.handle is None:  # it could not be submitted
            return True
        state = item.handle.state()
        if not state.ended:
            item.about = replace(item.about, state=state)
            return False
        seconds = round(time.time() - item.started, 1)
        try:
            outputs = item.handle.wait()
            if item.doubted:
                outputs = believed(outputs, item.stores, item.doubted)
            item.about = replace(item.about, state=state, seconds=seconds, outputs=outputs)
        except EngineError as error:
            logs = item.handle.logs  # of a run on this machine they are somewhere else now
            item.about = replace(item.about, state=state, seconds=seconds, error=error.message, logs=logs)
        _close(item)
        about = item.about
        ended = {
            "state": state.value, "outputs": about.outputs, "error": about.error, "seconds": seconds, "time": time.time()
        }  # fmt: skip
        records.write(item.key, item.attempt, "ended", ended)
        _log.info("run.ended", run=about.run, state=state.value, seconds=seconds, cause=about.error or None)
        return True

    @staticmethod
    def _wants_to_cancel(items: list[_Item]) -> bool:
        """Whether these should end; those of this machine do so in any case, and nobody need be asked."""
        if not any(item.handle is not None and item.handle.outlives_client for item in items):
            return True
        return wants_to_cancel(f"the {len(items)} runs under way")

    @contextmanager
    def _cancelling(self, active: list[_Item], records: Records) -> Iterator[None]:
        """Cancel what is under way when this is interrupted, or leave it to itself if so wanted."""
        try:
            yield
        except BaseException as error:
            mine = [item for item in active if item.handle is not None]
            # whatever else happens here says nothing of the runs, which the next call finds again
            cancel = isinstance(error, KeyboardInterrupt) and self._wants_to_cancel(mine)
            for item in mine:
                with suppress(EngineError):
                    if cancel and item.handle is not None:
                        item.handle.cancel()
                        records.write(
                            item.key, item.attempt, "ended", {"state": "cancelled", "time": time.time()}
                        )
                _close(item)
            raise


def _close(item: _Item) -> None:
    """Let go of what a run that has ended holds here, such as the folder of a local one."""
    if item.handle is not None:
        item.handle.leave()
        item.handle = None


def _key(digest: str, arguments: dict[str, Any]) -> str:
    text = f"{digest}\0{json.dumps(arguments, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _title(pipeline: Any) -> str:
    if isinstance(pipeline, (str, Path)):
        return str(pipeline).rstrip("/").rpartition("/")[2].partition(".")[0]
    return str(getattr(pipeline, "name", None) or "batch")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "batch"


def _store_of(arguments: dict[str, Any], store: str) -> str:
    return str(arguments.get("store") or store)


@contextmanager
def _shown(items: Sequence[_Item], *, progress: bool | None) -> Iterator[Callable[[], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    if progress is False or (progress is None and not console.is_terminal):
        yield lambda: None
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(Batch([item.about for item in items]).__rich__(), refresh=True)
