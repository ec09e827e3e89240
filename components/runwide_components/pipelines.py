"""`Pipelines`: a batch of runs, one for each set of parameters, which the same call resumes."""

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

from runwide.errors import EngineError, InputError, RunsFailed
from runwide.job.runner import looks
from runwide.log import Log
from runwide.store.base import open_store
from runwide_components.batch import Batch, PipelineRun
from runwide_components.batch_records import Records, cancel_all, ended_run, status_of, trusted
from runwide_components.checks import checked_store
from runwide_components.engines.base import RunState, checked_engine
from runwide_components.engines.fitting import checked_stores
from runwide_components.engines.local import Local
from runwide_components.engines.spec import digested
from runwide_components.parameters import Inputs, labels_of, parameter_sets, run_name, useful_labels
from runwide_components.watch import wants_to_cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide_components.batch_records import Attempts
    from runwide_components.engines.base import Engine, Run

_log = Log("pipelines")
_EXCHANGE = "exchange"
_LOOKS = (0.2, 10.0)


@dataclass
class _Item:
    """One run in progress."""

    key: str
    about: PipelineRun
    attempt: int = 0
    handle: Run | None = None
    started: float = field(default_factory=time.time)
    budget: int = 0  # further attempts after a failure
    stores: Sequence[str] = ()  # results in these are trusted
    doubted: str = ""  # URI of an unsigned record that names its run


class Pipelines:
    """Runs of one pipeline with many sets of parameters, some at a time.

    The store keeps the end of each run under the batch's name, and a run that succeeded with the same pipeline and the same
    arguments is not run again. So the same call again resumes an interrupted batch, runs failed runs again, or adds sets of
    parameters. A pipeline is the same if it compiles to the same spec. A function that travels as bytecode changes the spec
    when the function, or Python, changes.

    A pipeline with a ``str`` parameter ``exchange`` gets the URI of a `runwide.Exchange` that all runs of the batch share,
    and one with a parameter ``store`` gets the batch's store. A set of parameters may have other values for both.

    Args:
        pipeline: A ``@dsl.pipeline``, the path of a compiled one, or a registry's URL if the engine accepts one.
        engine: The engine; None for `Local`.
        store: Store for the records of the batch: ``gs://bucket/prefix`` or a folder; None for ``RUNWIDE_STORE``.
        name: Name of the batch; None for the name of the pipeline.
        max_active: The largest number of runs at the same time.
        retries: The number of further submissions of a run that failed.
        labels: Names of the parameters that become labels of a run; None for all scalars.
        progress: True for a table on standard error, False for none, None for a table on a terminal only.

    Raises:
        InputError: An option is invalid, or no store is given.

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
                f"invalid max_active={max_active}, retries={retries}: expected 1 or more, and 0 or more",
                hint="give such as max_active=8, retries=1",
            )
        self.pipeline = pipeline
        self.engine: Engine = checked_engine(engine, pipelines=True) or Local()
        self.store = checked_store(store)
        self.max_active = max_active
        self.retries = retries
        self.labels = None if labels is None else tuple(labels)
        self.progress = progress
        text = (name or _title(pipeline)).lower()
        self.name = re.sub(r"[^a-z0-9]+", "-", text).strip("-") or "batch"

    def __repr__(self) -> str:
        return f"Pipelines({self.name!r}, engine={self.engine!r})"

    @property
    def uri(self) -> str:
        """The URI of the batch's folder."""
        with open_store(self.store) as store:
            return store.child_uri(f"batches/{self.name}")

    def map(self, parameters: Any, *, on_error: str = "raise") -> Batch:
        """Run the pipeline for each set of parameters that has not succeeded yet, and wait for all.

        Args:
            parameters: A list, a grid, a CSV file or a DataFrame; see `runwide_components.parameters.parameter_sets`.
            on_error: ``"raise"`` an error once all runs have ended, or ``"return"`` the failed runs among the others.

        Raises:
            RunsFailed: A run failed; ``error.runs`` is the batch.
            InputError: The parameters do not fit the pipeline.
        """
        if on_error not in ("raise", "return"):
            raise InputError(f"invalid on_error={on_error!r}", hint='give "raise" or "return"')
        with self._prepared(parameters) as (path, items, records):
            self._run(path, items, records)
        batch = Batch([item.about for item in items], uri=self.uri)
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
        """Return the runs that `map` would give, with their names; runs that succeeded before have ``reused``."""
        with self._prepared(parameters) as (_, items, _records):
            return Batch([item.about for item in items], uri=self.uri)

    def status(self) -> Batch:
        """Return all runs of the batch in the store; see `runwide_components.batch_records.status_of`."""
        return status_of(self.uri, engine=self.engine)

    def cancel(self) -> int:
        """Cancel all runs of the batch that have not ended; see `runwide_components.batch_records.cancel_all`."""
        return cancel_all(self.uri, engine=self.engine)

    @contextmanager
    def _prepared(self, parameters: Any) -> Iterator[tuple[Any, list[_Item], Records]]:
        with (
            tempfile.TemporaryDirectory(prefix="runwide-batch-") as folder,
            open_store(self.store) as root,
            root.sub(f"batches/{self.name}") as store,
        ):
            path, digest, loaded = digested(self.pipeline, Path(folder), self.engine)
            inputs = None if loaded is None else Inputs.of(loaded)
            title = _title(self.pipeline) if loaded is None else loaded.pipeline_info.name
            records = Records(store)
            sets = parameter_sets(self._with_shared(parameters, inputs), inputs)
            stores = [self._stores(loaded, one, number) for number, one in enumerate(sets)]
            known = records.attempts()
            items = [
                self._item(PipelineRun("", one, pipeline=title), digest, known, places)
                for one, places in zip(sets, stores, strict=True)
            ]
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

    def _item(self, about: PipelineRun, digest: str, known: Attempts, stores: Sequence[str]) -> _Item:
        arguments = about.arguments
        key = _key(digest, arguments)
        attempts = known.get(key, {})
        number = max(attempts, default=0)
        last = attempts.get(number, {})
        about = replace(about, name=self._run_name(arguments, key, number))
        if "ended" not in last:
            if "submitted" not in last:
                return _Item(key, about, number)
            submitted = last["submitted"]
            doubted = "" if submitted.vouched else submitted.uri
            run = submitted.about["run"]
            return _Item(key, replace(about, run=run), number, stores=stores, doubted=doubted)
        if last["ended"].about["state"] is RunState.SUCCEEDED:
            ended = ended_run(about, last, stores)
            return _Item(key, replace(ended, attempts=number + 1, reused=True), number)
        return _Item(key, replace(about, name=self._run_name(arguments, key, number + 1)), number + 1)

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
        if item.about.run:  # an earlier call submitted it
            try:
                item.handle = self.engine.attach(item.about.run)
            except EngineError as error:
                _log.warning("run.lost", run=item.about.run, cause=error.message)
                records.end(item.key, item.attempt, state="failed", error="the engine does not know this run")
                self._again(item)
            else:
                item.about = replace(
                    item.about, state=RunState.RUNNING, attempts=item.attempt + 1, started=item.started
                )
                return
        arguments = item.about.arguments
        labels = {
            **labels_of(arguments if self.labels else useful_labels(arguments), self.labels),
            "runwide-batch": self.name[:63],
        }
        item.started = time.time()
        claim = {"arguments": arguments, "name": item.about.name, "pipeline": item.about.pipeline}
        records.write(item.key, item.attempt, "claimed", claim)
        try:
            item.handle = self.engine.submit(
                path, arguments, store=_store_of(arguments, self.store), name=item.about.name, labels=labels
            )
        except EngineError as error:
            item.about = replace(
                item.about, state=RunState.FAILED, error=str(error), attempts=item.attempt + 1
            )
            return
        run: dict[str, Any] = {"run": item.handle.id, "logs": item.handle.logs}
        item.about = replace(
            item.about, state=RunState.RUNNING, attempts=item.attempt + 1, started=item.started, **run
        )
        about = {
            **run, "engine": self.engine.about(), "time": item.started, "name": item.about.name, "arguments": arguments
        }  # fmt: skip
        records.write(item.key, item.attempt, "submitted", about)

    def _again(self, item: _Item) -> _Item:
        _close(item)
        item.doubted = ""
        item.attempt += 1
        arguments = item.about.arguments
        name = self._run_name(arguments, item.key, item.attempt)
        item.about = PipelineRun(name, arguments, attempts=item.attempt, pipeline=item.about.pipeline)
        return item

    def _run_name(self, arguments: dict[str, Any], key: str, attempt: int) -> str:
        shown = {name: value for name, value in arguments.items() if name not in (_EXCHANGE, "store")}
        return run_name(self.name, shown, key, attempt)

    def _has_ended(self, item: _Item, records: Records) -> bool:
        if item.handle is None:  # its submission failed
            return True
        state = item.handle.state()
        if not state.ended:
            item.about = replace(item.about, state=state)
            return False
        seconds = round(time.time() - item.started, 1)
        try:
            outputs = item.handle.wait()
            if item.doubted:
                outputs = trusted(outputs, item.stores, item.doubted)
            item.about = replace(item.about, state=state, seconds=seconds, outputs=outputs)
        except EngineError as error:
            logs = item.handle.logs  # logs of a run on this machine have been moved
            item.about = replace(item.about, state=state, seconds=seconds, error=error.message, logs=logs)
        _close(item)
        about = item.about
        records.end(
            item.key,
            item.attempt,
            state=state.value,
            outputs=about.outputs,
            error=about.error,
            seconds=seconds,
        )
        _log.info("run.ended", run=about.run, state=state.value, seconds=seconds, cause=about.error or None)
        return True

    @staticmethod
    def _wants_to_cancel(items: list[_Item]) -> bool:
        """Return True if these runs should end. Runs of this machine end anyway, so the user is not asked about them."""
        if not any(item.handle is not None and item.handle.outlives_client for item in items):
            return True
        return wants_to_cancel(f"the {len(items)} active runs")

    @contextmanager
    def _cancelling(self, active: list[_Item], records: Records) -> Iterator[None]:
        """At Ctrl-C, cancel the active runs, or leave them alone if the user says so."""
        try:
            yield
        except BaseException as error:
            mine = [item for item in active if item.handle is not None]
            # any other error says nothing about the runs, which the next call finds again
            cancel = isinstance(error, KeyboardInterrupt) and self._wants_to_cancel(mine)
            for item in mine:
                with suppress(EngineError):
                    if cancel and item.handle is not None:
                        item.handle.cancel()
                        records.end(item.key, item.attempt, state="cancelled")
                _close(item)
            raise


def _close(item: _Item) -> None:
    """Free what a run that has ended holds in this process, such as the folder of a local run."""
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
