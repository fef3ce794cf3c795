"""Many callers, few model calls.

`submit` lets the rows of one request wait and gives back their results in order; `serve`, the one task that owns
the queue, hands each due batch to a free runner. A runner is a function that blocks (pad, run the engine) with a
thread of its own. Nothing here knows engines: a lambda is a runner.

One event loop, no locks, no polling: the serving task sleeps until a row arrives, a runner is free again, or a
waiting head becomes due.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from server.arrays import Floats, Ids
from server.buckets import Batch, Buckets, Lane
from server.errors import DeadlineExceeded, EngineFailed, Overloaded, PrelabelError, Unavailable

Runner = Callable[[Sequence[Ids], int], Floats]
"""(rows of ids, padded length) → float32[rows, classes]; called in the runner's own thread."""


@dataclass(eq=False, slots=True)
class Job:
    """One request: the future its caller waits for and the results that are there already."""

    future: "asyncio.Future[Floats]"
    results: list[Floats | None]
    missing: int


@dataclass(eq=False, slots=True)
class WaitingRow:
    """One text of a job; `place` is its index in the request."""

    ids: Ids
    lane: Lane
    job: Job
    place: int

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def abandoned(self) -> bool:
        return self.job.future.done()


class Batcher:
    """`max_waiting_rows` bounds the rows admitted and not yet answered, over all requests."""

    def __init__(
        self,
        buckets: Buckets[WaitingRow],
        runners: Iterable[Runner],
        *,
        max_waiting_rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = buckets
        self._runners = list(runners)
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"engine-{i}") for i in range(len(self._runners))]
        self._idle = deque(range(len(self._runners)))
        self._max_waiting_rows = max_waiting_rows
        self._clock = clock
        self._wake = asyncio.Event()
        self._jobs: set[Job] = set()
        self._closed = False
        self.waiting_rows = 0

    async def submit(self, rows: Sequence[Ids], lane: Lane, *, seconds: float | None = None) -> Floats:
        """Results float32[rows, classes] in the order of `rows` (at least one).

        Raises Overloaded at once when there is no room for all rows, DeadlineExceeded after `seconds`,
        EngineFailed when the model call of one of the rows failed, Unavailable when the server stops.
        """
        if self._closed:
            raise Unavailable("The server is stopping; send the request again in a moment.")
        if self.waiting_rows + len(rows) > self._max_waiting_rows:
            raise Overloaded(
                f"{self.waiting_rows} texts are waiting and {len(rows)} more would pass the limit of "
                f"{self._max_waiting_rows} (PRELABEL_MAX_WAITING_ROWS); send the request again later."
            )
        job = Job(asyncio.get_running_loop().create_future(), [None] * len(rows), len(rows))
        self._jobs.add(job)
        self.waiting_rows += len(rows)
        now = self._clock()
        for place, ids in enumerate(rows):
            self._buckets.put(WaitingRow(ids, lane, job, place), now)
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                return await job.future
        except TimeoutError:
            raise DeadlineExceeded(f"The {len(rows)} texts were not predicted within {seconds:g} s (PRELABEL_REQUEST_TIMEOUT); send fewer at once.") from None
        finally:
            job.future.cancel()
            self._jobs.discard(job)
            self.waiting_rows -= len(rows)

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

    def _start(self, runner: int, batch: Batch[WaitingRow]) -> None:
        ids = [row.ids for row in batch.rows]
        call = asyncio.get_running_loop().run_in_executor(self._threads[runner], self._runners[runner], ids, batch.length)
        call.add_done_callback(lambda done: self._finish(runner, batch, done))

    def _finish(self, runner: int, batch: Batch[WaitingRow], call: "asyncio.Future[Floats]") -> None:
        """Give the results, or the failure, to the callers of this batch and to nobody else."""
        self._idle.append(runner)
        self._wake.set()
        if call.cancelled():
            return
        failure = call.exception() or _nonsense(call.result(), len(batch.rows))
        for i, row in enumerate(batch.rows):
            if row.abandoned:
                continue
            if failure is not None:
                row.job.future.set_exception(_as_refusal(failure))
                continue
            row.job.results[row.place] = call.result()[i]
            row.job.missing -= 1
            if row.job.missing == 0:
                row.job.future.set_result(np.stack([result for result in row.job.results if result is not None]))


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
    refusal = EngineFailed(f"The model call failed with {type(failure).__name__}; the server's log has more.")
    refusal.__cause__ = failure
    return refusal
