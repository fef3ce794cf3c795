"""Many callers, few model calls.

`admit` admits a request, whole or not at all; `submit` lets some rows of it wait and gives back their results
in order; `serve`, the one task that owns the queue, hands each due batch to a free thread. What a batch runs
is its rows' runner: a function that blocks (pad, run a model's engine). Rows of one runner are batched
together, rows of several take turns. Nothing here knows engines: a lambda is a runner.

One event loop, no locks, no polling: the serving task sleeps until a row arrives, a thread is free again, or
a waiting head becomes due.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from server.arrays import Bools, Floats, Ids, RunBatch
from server.batching.buckets import Batch, Buckets, Priority
from server.batching.engine_thread import ModelThread
from server.batching.queue_stats import PriorityStats, QueueStats
from server.errors import EngineFailed, Overloaded, PrelabelError, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A model call that is over: `rows` of `tokens` together, each padded to `length`, and the seconds that
    the engine took; None where it failed.
    """

    run_batch: RunBatch
    priority: Priority
    rows: int
    length: int
    tokens: int
    seconds: float | None


class BatchObserver(Protocol):
    """Told of what happens, on the event loop; it must not take long."""

    def on_batch_done(self, call: BatchRecord) -> None:
        """A model call is over."""

    def waiting(self, priority: Priority, waiting: PriorityStats) -> None:
        """Who waits in `priority` now."""

    def abandoned(self, priority: Priority, rows: int) -> None:
        """A caller left while `rows` of his waited for a model call, or were in one."""


MOST_HANGING = 8
"""Threads that are left behind in a call that hangs, and replaced."""


@dataclass(frozen=True)
class RequestResult:
    """What became of the rows of one `submit`, in their order.

    `probabilities` float32[rows, classes]; `answered` bool[rows] is False where the model call failed, and
    then `failure` is why. `waited` is in seconds from arrival to model call, the mean of the rows; `engine`
    in seconds of model calls, these rows' share.
    """

    probabilities: Floats
    answered: Bools
    failure: PrelabelError | None
    waited: float
    engine: float


@dataclass(eq=False, slots=True)
class PendingRequest:
    """The rows of one `submit`: the future its caller waits for and the results that are there already."""

    future: "asyncio.Future[RequestResult]"
    arrived: float
    missing: int
    answered: Bools
    probabilities: Floats | None = None
    failure: BaseException | None = None
    waited: float = 0.0
    engine: float = 0.0

    def take(self, places: list[int], answers: "BatchOutput", share: float) -> None:
        """The answers to the rows at `places`, which were `share` of a model call."""
        if self.probabilities is None:
            self.probabilities = np.zeros(
                (len(self.answered), answers.probabilities.shape[1]), dtype=np.float32
            )
        self.probabilities[places] = answers.probabilities
        self.answered[places] = True
        self.waited += len(places) * (answers.begun - self.arrived)
        self.engine += share * (answers.ended - answers.begun)

    def end(self) -> None:
        rows = len(self.answered)
        probabilities = (
            self.probabilities if self.probabilities is not None else np.zeros((rows, 0), dtype=np.float32)
        )
        failure = _as_refusal(self.failure) if self.failure is not None else None
        self.future.set_result(
            RequestResult(probabilities, self.answered, failure, self.waited / rows, self.engine)
        )


@dataclass(frozen=True)
class BatchOutput:
    """What a model call gave for its rows, float32[rows, classes], and when it began and ended."""

    probabilities: Floats
    begun: float
    ended: float


@dataclass(eq=False, slots=True)
class QueueEntry:
    """One text of a job; `place` is its index in the request, `group` its runner."""

    ids: Ids
    priority: Priority
    group: RunBatch
    job: PendingRequest
    place: int

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def abandoned(self) -> bool:
        return self.job.future.done()


class Batcher:
    """`threads` model calls at the same time, and besides, one of interactive rows, which so never find all
    threads busy with bulk.

    `max_waiting_rows` bounds the rows of one runner that are admitted and not yet answered. A call that is
    not back after `call_timeout` seconds has failed; its thread is left behind and replaced.
    """

    def __init__(
        self,
        buckets: Buckets[QueueEntry],
        threads: int,
        *,
        max_waiting_rows: int,
        observer: BatchObserver,
        call_timeout: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = buckets
        self._idle = deque(ModelThread(f"engine-{i}") for i in range(threads))
        self._reserved = deque([ModelThread("engine-express")])
        self._threads = {*self._idle, *self._reserved}
        self._hanging: set[ModelThread] = set()
        self._max_waiting_rows = max_waiting_rows
        self._call_timeout = call_timeout
        self._observer = observer
        self._clock = clock
        self._wake = asyncio.Event()
        self._jobs: set[PendingRequest] = set()
        self._closed = False
        self._waiting: Counter[RunBatch] = Counter()
        self._inside = QueueStats()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why nothing is answered, in plain words; None while it is."""
        if self._closed:
            return "The server is stopping; send the request again in a moment."
        if len(self._hanging) > MOST_HANGING:
            return f"{len(self._hanging)} model calls hang and no more are begun; restart the server."
        return None

    @property
    def waiting_rows(self) -> int:
        """Rows admitted and not yet answered."""
        return self._waiting.total()

    @contextmanager
    def admit(self, rows: int, priority: Priority, run_batch: RunBatch) -> Iterator[None]:
        """Admits `rows` rows for `run_batch`, all of one request or none, for as long as the block lasts. Raises
        Overloaded, Unavailable.
        """
        if self.unhealthy_reason is not None:
            raise Unavailable(self.unhealthy_reason)
        if self._waiting[run_batch] + rows > self._max_waiting_rows:
            raise Overloaded(
                f"{self._waiting[run_batch]} texts are waiting and {rows} more would pass the limit of "
                f"{self._max_waiting_rows} (PRELABEL_MAX_WAITING_ROWS); send the request again later."
            )
        self._waiting[run_batch] += rows
        key = object()
        self._observer.waiting(priority, self._inside.enter(key, priority, rows, self._clock()))
        try:
            yield
        finally:
            self._observer.waiting(priority, self._inside.leave(key, priority, rows))
            self._waiting[run_batch] -= rows
            if not self._waiting[run_batch]:
                del self._waiting[run_batch]

    async def submit(self, rows: Sequence[Ids], priority: Priority, run_batch: RunBatch) -> RequestResult:
        """What `run_batch` answers to `rows`, at least one, for which there is room. Raises Unavailable when the
        server stops.
        """
        if self._closed:
            raise Unavailable("The server is stopping; send the request again in a moment.")
        now = self._clock()
        job = PendingRequest(
            asyncio.get_running_loop().create_future(), now, len(rows), np.zeros(len(rows), dtype=np.bool_)
        )
        self._jobs.add(job)
        for place, ids in enumerate(rows):
            self._buckets.put(QueueEntry(ids, priority, run_batch, job, place), now)
        self._wake.set()
        try:
            return await job.future
        finally:
            job.future.cancel()
            self._jobs.discard(job)
            if job.future.cancelled():
                self._observer.abandoned(priority, job.missing)

    async def serve(self) -> None:
        """Own the queue until cancelled. However it ends, no caller is left waiting."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.TimerHandle | None = None
        try:
            while True:
                now = self._clock()
                while self._reserved and (batch := self._buckets.pop_interactive(now)):
                    self._start(self._reserved, batch)
                while self._idle and (batch := self._buckets.pop(now)):
                    self._start(self._idle, batch)
                due = self._buckets.next_due() if self._idle else None
                if due is not None:
                    alarm = loop.call_later(max(0.0, due - now), self._wake.set)
                await self._wake.wait()
                self._wake.clear()
                if alarm is not None:
                    alarm.cancel()
        finally:
            self._closed = True
            for job in list(self._jobs):
                if not job.future.done():
                    job.future.set_exception(
                        Unavailable(
                            "The server stopped before the texts were predicted; send the request again."
                        )
                    )

    def close(self) -> None:
        """End the threads, and wait for the model calls under way, as long as a call may take. Call it after
        `serve` has ended.
        """
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(self._call_timeout)

    def _start(self, free: deque[ModelThread], batch: Batch[QueueEntry]) -> None:
        thread = free.popleft()
        ids, run_batch, clock = [row.ids for row in batch.rows], batch.rows[0].group, self._clock

        def run() -> BatchOutput:
            begun = clock()
            probabilities = run_batch(ids, batch.length)
            return BatchOutput(probabilities, begun, clock())

        def finish(call: "asyncio.Future[BatchOutput]") -> None:
            alarm.cancel()
            free.append(thread)
            self._wake.set()
            self._finish(batch, call.exception() or call.result())

        def give_up() -> None:
            if call.done():
                return  # it came back a moment ago
            call.remove_done_callback(finish)
            self._leave_behind(thread, call, free)
            self._finish(
                batch,
                EngineFailed(
                    f"The model call was not back after {self._call_timeout:g} s (PRELABEL_CALL_TIMEOUT)."
                ),
            )

        call = thread.call(run)
        call.add_done_callback(finish)
        alarm = asyncio.get_running_loop().call_later(self._call_timeout, give_up)

    def _leave_behind(
        self, thread: ModelThread, call: "asyncio.Future[BatchOutput]", free: deque[ModelThread]
    ) -> None:
        """Another thread in place of one that hangs; of too many, only when it comes back after all."""

        def replace_it() -> None:
            fresh = ModelThread(thread.name)
            self._threads.add(fresh)
            free.append(fresh)
            self._wake.set()

        def came_back(call: "asyncio.Future[BatchOutput]") -> None:
            call.exception()  # nobody waits for it any more
            self._hanging.discard(thread)
            if not replaced:
                replace_it()

        thread.end()
        self._threads.discard(thread)
        self._hanging.add(thread)
        replaced = len(self._hanging) <= MOST_HANGING
        if replaced:
            replace_it()
        call.add_done_callback(came_back)

    def _finish(self, batch: Batch[QueueEntry], outcome: BatchOutput | BaseException) -> None:
        """Give the results, or the failure, to the callers of this batch and to nobody else."""
        failure = (
            outcome
            if isinstance(outcome, BaseException)
            else _nonsense(outcome.probabilities, len(batch.rows))
        )
        if failure is not None:
            log.error(
                "a model call with %d texts of %d tokens failed: %s",
                len(batch.rows),
                batch.length,
                type(failure).__name__,
                exc_info=failure,
            )
        self._observer.on_batch_done(_told(batch, outcome if failure is None else None))
        jobs: dict[PendingRequest, list[int]] = {}
        for i, row in enumerate(batch.rows):
            jobs.setdefault(row.job, []).append(i)
        for job, mine in jobs.items():
            if job.future.done():
                continue
            if isinstance(outcome, BatchOutput) and failure is None:
                part = (
                    outcome if len(jobs) == 1 else replace(outcome, probabilities=outcome.probabilities[mine])
                )
                job.take([batch.rows[i].place for i in mine], part, len(mine) / len(batch.rows))
            else:
                job.failure = failure
            job.missing -= len(mine)
            if job.missing == 0:
                job.end()


def _told(batch: Batch[QueueEntry], answers: BatchOutput | BaseException | None) -> BatchRecord:
    first = batch.rows[0]
    seconds = answers.ended - answers.begun if isinstance(answers, BatchOutput) else None
    return BatchRecord(
        first.group,
        first.priority,
        len(batch.rows),
        batch.length,
        sum(row.length for row in batch.rows),
        seconds,
    )


def _nonsense(results: Floats, rows: int) -> EngineFailed | None:
    """Rows in = rows out, and every number finite: checked at the seam, whatever the engine."""
    if results.ndim != 2 or len(results) != rows:
        return EngineFailed(
            f"The engine answered {results.shape} for {rows} texts; it must be one row a text."
        )
    if not np.isfinite(results).all():
        return EngineFailed("The engine answered a probability that is not a finite number.")
    return None


def _as_refusal(failure: BaseException) -> PrelabelError:
    """A fresh exception for each caller, so that tracebacks of several requests do not grow on one object."""
    if isinstance(failure, PrelabelError):
        return type(failure)(*failure.args)
    return EngineFailed(f"The model call failed with {type(failure).__name__}; the server's log has more.")
