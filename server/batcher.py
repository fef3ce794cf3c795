"""Many callers, few model calls.

`submit` lets the rows of one request wait and gives back their results in order; `serve`, the one task that owns
the queue, hands each due batch to a free thread. What a batch runs is its rows' runner: a function that blocks (pad, run
a model's engine). Rows of one runner are batched together, rows of several take turns. Nothing here knows engines: a
lambda is a runner.

One event loop, no locks, no polling: the serving task sleeps until a row arrives, a thread is free again, or a
waiting head becomes due.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from server.arrays import Floats, Ids
from server.buckets import Batch, Buckets, Lane
from server.errors import DeadlineExceeded, EngineFailed, Overloaded, PrelabelError, Unavailable

log = logging.getLogger(__name__)

Runner = Callable[[Sequence[Ids], int], Floats]
"""(rows of ids, padded length) → float32[rows, classes]; called in one of the batcher's threads."""


@dataclass(frozen=True)
class Outcome:
    """float32[classes] for each row in order, None where its model call failed; `failure` is why, when any did."""

    rows: list[Floats | None]
    failure: PrelabelError | None = None


@dataclass(eq=False, slots=True)
class Job:
    """One request: the future its caller waits for and the results that are there already."""

    future: "asyncio.Future[Outcome]"
    results: list[Floats | None]
    missing: int
    failure: BaseException | None = None


@dataclass(eq=False, slots=True)
class WaitingRow:
    """One text of a job; `place` is its index in the request, `group` its runner."""

    ids: Ids
    lane: Lane
    group: Runner
    job: Job
    place: int

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def abandoned(self) -> bool:
        return self.job.future.done()


class Batcher:
    """`threads` model calls at the same time; `max_waiting_rows` bounds the rows of one runner that are admitted and not yet answered."""

    def __init__(self, buckets: Buckets[WaitingRow], threads: int, *, max_waiting_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"engine-{i}") for i in range(threads)]
        self._idle = deque(range(threads))
        self._max_waiting_rows = max_waiting_rows
        self._clock = clock
        self._wake = asyncio.Event()
        self._jobs: set[Job] = set()
        self._closed = False
        self._waiting: Counter[Runner] = Counter()

    @property
    def waiting_rows(self) -> int:
        """Rows admitted and not yet answered."""
        return self._waiting.total()

    async def submit(self, rows: Sequence[Ids], lane: Lane, runner: Runner, *, seconds: float | None = None) -> Outcome:
        """What `runner` answers to `rows` (at least one), in their order.

        Raises Overloaded at once when there is no room for all rows, DeadlineExceeded after `seconds`,
        EngineFailed when every model call of the rows failed, Unavailable when the server stops.
        """
        if self._closed:
            raise Unavailable("The server is stopping; send the request again in a moment.")
        if self._waiting[runner] + len(rows) > self._max_waiting_rows:
            raise Overloaded(
                f"{self._waiting[runner]} texts are waiting and {len(rows)} more would pass the limit of "
                f"{self._max_waiting_rows} (PRELABEL_MAX_WAITING_ROWS); send the request again later."
            )
        job = Job(asyncio.get_running_loop().create_future(), [None] * len(rows), len(rows))
        self._jobs.add(job)
        self._waiting[runner] += len(rows)
        now = self._clock()
        for place, ids in enumerate(rows):
            self._buckets.put(WaitingRow(ids, lane, runner, job, place), now)
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                return await job.future
        except TimeoutError:
            raise DeadlineExceeded(f"The {len(rows)} texts were not predicted within {seconds:g} s (PRELABEL_REQUEST_TIMEOUT); send fewer at once.") from None
        finally:
            job.future.cancel()
            self._jobs.discard(job)
            self._waiting[runner] -= len(rows)
            if not self._waiting[runner]:
                del self._waiting[runner]

    async def serve(self) -> None:
        """Own the queue until cancelled. However it ends, no caller is left waiting."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.TimerHandle | None = None
        try:
            while True:
                now = self._clock()
                while self._idle and (batch := self._buckets.pop(now)):
                    self._start(self._idle.popleft(), batch)
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
                    job.future.set_exception(Unavailable("The server stopped before the texts were predicted; send the request again."))

    def close(self) -> None:
        """Wait for the model calls under way and end the threads. Call it after `serve` has ended."""
        for thread in self._threads:
            thread.shutdown()

    def _start(self, thread: int, batch: Batch[WaitingRow]) -> None:
        ids = [row.ids for row in batch.rows]
        call = asyncio.get_running_loop().run_in_executor(self._threads[thread], batch.rows[0].group, ids, batch.length)
        call.add_done_callback(lambda done: self._finish(thread, batch, done))

    def _finish(self, thread: int, batch: Batch[WaitingRow], call: "asyncio.Future[Floats]") -> None:
        """Give the results, or the failure, to the callers of this batch and to nobody else."""
        self._idle.append(thread)
        self._wake.set()
        if call.cancelled():
            return
        failure = call.exception() or _nonsense(call.result(), len(batch.rows))
        if failure is not None:
            log.error("a model call with %d texts of %d tokens failed: %s", len(batch.rows), batch.length, failure, exc_info=failure)
        for i, row in enumerate(batch.rows):
            job = row.job
            if row.abandoned:
                continue
            if failure is None:
                job.results[row.place] = call.result()[i]
            else:
                job.failure = failure
            job.missing -= 1
            if job.missing == 0:
                _answer(job)


def _answer(job: Job) -> None:
    """A request of which nothing was predicted has failed; one of which something was has not."""
    failure = _as_refusal(job.failure) if job.failure is not None else None
    if failure is not None and all(result is None for result in job.results):
        job.future.set_exception(failure)
    else:
        job.future.set_result(Outcome(job.results, failure))


def _nonsense(results: Floats, rows: int) -> EngineFailed | None:
    """Rows in = rows out, and every number finite: checked at the seam, whatever the engine."""
    if results.ndim != 2 or len(results) != rows:
        return EngineFailed(f"The engine answered {results.shape} for {rows} texts; it must be one row a text.")
    if not np.isfinite(results).all():
        return EngineFailed("The engine answered a probability that is not a finite number.")
    return None


def _as_refusal(failure: BaseException) -> PrelabelError:
    """A fresh exception for each caller, so that tracebacks of several requests do not grow on one object."""
    if isinstance(failure, PrelabelError):
        return type(failure)(*failure.args)
    return EngineFailed(f"The model call failed with {type(failure).__name__}; the server's log has more.")
