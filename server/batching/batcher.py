"""Dynamic batching: merges rows from concurrent requests into model calls."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, Self

import numpy as np

from server.arrays import Floats, Ids, RunBatch
from server.batching.buckets import Batch, Buckets, Priority
from server.batching.engine_threads import EngineThreads
from server.batching.observer import BatchObserver, BatchRecord
from server.batching.pending_request import BatchOutput, PendingRequest, QueueEntry, RequestResult
from server.batching.row_admission import RowAdmission
from server.errors import EngineFailed, Unavailable

P = ParamSpec("P")

log = logging.getLogger(__name__)

STOPPING = "The server is stopping; send the request again in a moment."
CRASHED = "The server has failed and restarts; send the request again in a moment."


class Batcher:
    """Merges rows of concurrent requests into batches and runs each batch on an engine thread:

    >>> def run_batch(rows, length):
    ...     return np.array([[len(row), length] for row in rows], dtype=np.float32)
    >>> async def main():
    ...     batcher = Batcher(
    ...         Buckets((8, 16), budget=64, max_wait=0, bulk_patience=8),
    ...         EngineThreads(2, call_timeout=60, max_hung=8),
    ...         RowAdmission(max_waiting_rows=100),
    ...         BatchObserver(),
    ...     )
    ...     rows = [np.arange(5, dtype=np.int32), np.arange(7, dtype=np.int32)]
    ...     async with batcher:
    ...         with batcher.admit(len(rows), Priority.BULK, run_batch):
    ...             return await batcher.submit(rows, Priority.BULK, run_batch)
    >>> asyncio.run(main()).probabilities.tolist()
    [[5.0, 8.0], [7.0, 8.0]]

    `run_batch` blocks, typically in an engine; only rows of the same `run_batch` share a batch. One
    scheduling task owns the queue. It sleeps until a row arrives, a call ends, or `max_wait` of a row is
    over.

    `on_crash` is called once if the scheduling task raises, after every caller has an error. The batcher then
    rejects all requests, and the process should end.
    """

    def __init__(
        self,
        buckets: Buckets[QueueEntry],
        threads: EngineThreads,
        admission: RowAdmission,
        observer: BatchObserver,
        *,
        on_crash: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.admission = admission
        self._buckets = buckets
        self._threads = threads
        self._observer = observer
        self._on_crash = on_crash
        self._clock = clock
        self._wake = asyncio.Event()
        self._pending: set[PendingRequest] = set()
        self._records: list[BatchRecord] = []
        self._settling_error: Exception | None = None
        self._stopped: str | None = None
        self._logged: set[tuple[str, type[Exception]]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._threads.start(self._wake.set)
        self._task = asyncio.create_task(self._schedule())
        self._task.add_done_callback(self._stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waiting callers get Unavailable. Running model calls may finish."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._threads.close()

    @property
    def crashed(self) -> bool:
        """Whether the scheduling task has raised. Only a new process can answer requests."""
        return self._stopped == CRASHED

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no model call can run; None if they can."""
        return self._stopped or self._threads.unhealthy_reason

    @contextmanager
    def admit(self, rows: int, priority: Priority, run_batch: RunBatch) -> Iterator[None]:
        """Admit all `rows` rows of a request for the duration of the block.

        Raises RequestTooLarge if they can never fit, Overloaded if they do not fit now, Unavailable.
        """
        if self.unhealthy_reason is not None:
            raise Unavailable(self.unhealthy_reason)
        key = object()
        stats = self.admission.enter(key, rows, priority, run_batch, self._clock())
        try:
            self._notify(self._observer.on_queue_changed, priority, stats)
            yield
        finally:
            stats = self.admission.leave(key)
            self._notify(self._observer.on_queue_changed, priority, stats)

    async def submit(
        self, rows: Sequence[Ids], priority: Priority, run_batch: RunBatch, *, token_cost: int = 1
    ) -> RequestResult:
        """Run `rows`, one int32[tokens] per text, at least one; the caller has admitted their texts.
        `token_cost` is what a token costs in `run_batch`, in tokens of the buckets' budget.

        Rows whose model call failed are marked in the result. Raises Unavailable if the batcher stops.
        """
        if self._stopped is not None:
            raise Unavailable(self._stopped)
        if not rows:
            raise ValueError("submit needs at least one row")
        now = self._clock()
        request = PendingRequest(asyncio.get_running_loop().create_future(), len(rows), now)
        self._pending.add(request)
        try:
            for index, ids in enumerate(rows):
                self._buckets.put(QueueEntry(ids, priority, run_batch, request, index, token_cost), now)
            self._wake.set()
            return await request.future
        finally:
            request.future.cancel()
            self._pending.discard(request)
            if request.future.cancelled():
                self._notify(self._observer.on_abandoned, priority, request.missing)

    async def _schedule(self) -> None:
        """Own the queue: start what is due, report what has ended, sleep until something changes."""
        loop = asyncio.get_running_loop()
        while True:
            if self._settling_error is not None:
                raise self._settling_error
            now = self._clock()
            while self._threads.reserved_idle and (due := self._buckets.pop_interactive(now)):
                self._start(due, reserved=True)
            while self._threads.idle and (due := self._buckets.pop(now)):
                self._start(due, reserved=False)
            records, self._records = self._records, []
            for record in records:
                self._notify(self._observer.on_batch_done, record)
            alarm = self._buckets.next_due(self._runnable())
            timer = None if alarm is None else loop.call_later(max(0.0, alarm - now), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()
            self._wake.clear()

    def _runnable(self) -> Sequence[Priority]:
        """Priorities that an idle thread could run."""
        if self._threads.idle:
            return tuple(Priority)
        return (Priority.INTERACTIVE,) if self._threads.reserved_idle else ()

    def _start(self, batch: Batch[QueueEntry], *, reserved: bool) -> None:
        ids, run_batch, clock = [row.ids for row in batch.rows], batch.rows[0].group, self._clock

        def call() -> BatchOutput:
            started = clock()
            probabilities = run_batch(ids, batch.length)
            ended = clock()
            return BatchOutput(_checked(probabilities, len(ids)), started, ended)

        def on_done(outcome: BatchOutput | BaseException) -> None:
            try:
                _settle(batch, outcome)
                self._records.append(_record(batch, outcome))
            except Exception as error:
                # a bug; raised by the scheduling task, because the event loop would only log it
                self._settling_error = error

        self._threads.run(call, on_done, reserved=reserved)

    def _stop(self, task: "asyncio.Task[None]") -> None:
        """The scheduling task has ended: give every waiting caller an error."""
        self._stopped = STOPPING if task.cancelled() else CRASHED
        for request in self._pending:
            if not request.future.done():
                request.future.set_exception(Unavailable(self._stopped))
        if not task.cancelled():
            log.critical("the batcher crashed and rejects all requests", exc_info=task.exception())
            self._on_crash()

    def _notify(self, event: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the observer. It must not harm requests: an exception is logged, once per event and type."""
        try:
            event(*args, **kwargs)
        except Exception as error:
            kind = (event.__name__, type(error))
            if kind not in self._logged:
                self._logged.add(kind)
                log.error("the batch observer failed in %s; logged once", event.__name__, exc_info=error)


def _checked(probabilities: Floats, rows: int) -> Floats:
    """Every engine must return one row per text and only finite numbers. Raises EngineFailed."""
    checked = np.asarray(probabilities, dtype=np.float32)
    if checked.ndim != 2 or len(checked) != rows:
        raise EngineFailed(
            f"The engine returned shape {checked.shape} for {rows} texts; expected one row per text."
        )
    if not np.isfinite(checked).all():
        raise EngineFailed("The engine returned a probability that is not a finite number.")
    return checked


def _settle(batch: Batch[QueueEntry], outcome: BatchOutput | BaseException) -> None:
    """Give the output or the failure of a model call to the requests of its rows."""
    positions: dict[PendingRequest, list[int]] = {}
    for position, row in enumerate(batch.rows):
        positions.setdefault(row.request, []).append(position)
    for request, mine in positions.items():
        if request.future.done():
            continue
        if isinstance(outcome, BatchOutput):
            request.add([batch.rows[position].index for position in mine], outcome, mine)
        else:
            request.fail(len(mine), outcome)
    if isinstance(outcome, BaseException):
        log.error(
            "a model call with %d texts of %d tokens failed: %s",
            len(batch.rows),
            batch.length,
            type(outcome).__name__,
            exc_info=outcome,
        )


def _record(batch: Batch[QueueEntry], outcome: BatchOutput | BaseException) -> BatchRecord:
    first = batch.rows[0]
    return BatchRecord(
        first.group,
        first.priority,
        rows=len(batch.rows),
        length=batch.length,
        tokens=sum(row.length for row in batch.rows),
        seconds=outcome.ended - outcome.started if isinstance(outcome, BatchOutput) else None,
    )
