"""The batcher with hand-written model calls: each caller gets its own results, and none waits forever."""

import asyncio
import doctest
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from server.arrays import Floats, Ids, RunBatch
from server.batching import batcher as batcher_module
from server.batching.batcher import CRASHED, STOPPING, Batcher
from server.batching.buckets import Batch, Buckets, Priority
from server.batching.engine_threads import EngineThreads
from server.batching.observer import BatchObserver, BatchRecord
from server.batching.pending_request import QueueEntry
from server.batching.queue_stats import PriorityStats
from server.batching.row_admission import RowAdmission
from server.errors import EngineFailed, Overloaded, RequestTooLarge, Unavailable
from tests.batching.conftest import EngineThreadNames

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
"""Seconds after which a result that does not come is a failure."""


def echo(rows: Sequence[Ids], length: int) -> Floats:
    """[first id, length of the row, padded length] of each row."""
    return np.array([[row[0], len(row), length] for row in rows], dtype=np.float32)


def failing(rows: Sequence[Ids], length: int) -> Floats:
    """`echo`, except for batches with a row that begins with 13."""
    if any(each[0] == 13 for each in rows):
        raise RuntimeError("secret detail")
    return echo(rows, length)


def row(first: int, length: int = 3) -> Ids:
    return np.full(length, first, dtype=np.int32)


async def until(state: Callable[[], object]) -> None:
    while not state():  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)


@dataclass
class Recorder(BatchObserver):
    """Keeps the events of a batcher."""

    records: list[BatchRecord] = field(default_factory=list)
    changes: list[tuple[Priority, PriorityStats]] = field(default_factory=list)
    abandoned: list[tuple[Priority, int]] = field(default_factory=list)

    def on_batch_done(self, record: BatchRecord) -> None:
        self.records.append(record)

    def on_queue_changed(self, priority: Priority, stats: PriorityStats) -> None:
        self.changes.append((priority, stats))

    def on_abandoned(self, priority: Priority, rows: int) -> None:
        self.abandoned.append((priority, rows))


class BrokenObserver(BatchObserver):
    """Raises at every event."""

    def on_batch_done(self, record: BatchRecord) -> None:
        raise ZeroDivisionError

    def on_queue_changed(self, priority: Priority, stats: PriorityStats) -> None:
        raise ZeroDivisionError

    def on_abandoned(self, priority: Priority, rows: int) -> None:
        raise ZeroDivisionError


class BreakableBuckets(Buckets[QueueEntry]):
    """A policy with a bug that shows when `broken` is set."""

    broken = False

    def pop(self, now: float) -> Batch[QueueEntry] | None:
        if self.broken:
            raise ZeroDivisionError
        return super().pop(now)


class Gate:
    """A model call that reports its start and waits until the gate opens."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, rows: Sequence[Ids], length: int) -> Floats:
        self.batches.append([int(each[0]) for each in rows])
        self.entered.release()
        self.open.wait()
        return echo(rows, length)

    async def was_entered(self) -> None:
        await asyncio.to_thread(self.entered.acquire)


@dataclass
class Served:
    """A running batcher, the model call for `submit`, and what the observer saw."""

    batcher: Batcher
    run_batch: RunBatch
    recorder: Recorder
    buckets: BreakableBuckets
    crashes: list[int]
    """For each call of `on_crash`, how many callers still waited."""

    async def submit(self, rows: Sequence[Ids], priority: Priority) -> Floats:
        with self.batcher.admit(len(rows), priority, self.run_batch):
            result = await self.batcher.submit(rows, priority, self.run_batch)
        if result.failure is not None:
            assert not result.answered.any()
            raise result.failure
        assert result.answered.all()
        return result.probabilities

    @property
    def waiting_rows(self) -> int:
        return self.batcher.admission.waiting_rows


@asynccontextmanager
async def serving(
    run_batch: RunBatch,
    threads: int = 1,
    max_waiting_rows: int = 100,
    max_wait: float = 0.0,
    observer: BatchObserver | None = None,
) -> AsyncIterator[Served]:
    recorder, crashes = Recorder(), list[int]()
    buckets = BreakableBuckets((4, 8), budget=16, max_wait=max_wait, bulk_patience=8)
    batcher = Batcher(
        buckets,
        EngineThreads(threads, call_timeout=PATIENCE, max_hung=8),
        RowAdmission(max_waiting_rows),
        observer or recorder,
        on_crash=lambda: crashes.append(sum(not each.future.done() for each in batcher._pending)),
    )
    async with asyncio.timeout(PATIENCE), batcher:
        yield Served(batcher, run_batch, recorder, buckets, crashes)


def test_the_example_of_the_docstring_is_right() -> None:
    assert doctest.testmod(batcher_module) == (0, 3)


async def test_results_come_in_the_order_of_the_rows_whatever_their_lengths() -> None:
    async with serving(echo, threads=2) as served:
        rows = [row(i, 1 + (i * 7) % 30) for i in range(60)]
        results = await served.submit(rows, Priority.BULK)
        assert results[:, 0].tolist() == list(range(60))
        assert results[:, 1].tolist() == [len(each) for each in rows]
        assert served.waiting_rows == 0


async def test_many_callers_share_a_model_call() -> None:
    gate = Gate()
    async with serving(gate) as served:
        first = asyncio.create_task(served.submit([row(0)], Priority.INTERACTIVE))
        await gate.was_entered()
        bulk = asyncio.create_task(served.submit([row(9)], Priority.BULK))
        await gate.was_entered()
        others = [asyncio.create_task(served.submit([row(i)], Priority.INTERACTIVE)) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        gate.open.set()
        results = await asyncio.gather(first, *others, bulk)
        assert [int(result[0, 0]) for result in results] == [0, 1, 2, 3, 9]
        assert gate.batches == [[0], [9], [1, 2, 3]]


async def test_a_single_task_does_not_wait_for_bulk_calls_under_way() -> None:
    gate = Gate()
    async with serving(gate) as served:
        bulk = asyncio.create_task(served.submit([row(0)] * 3, Priority.BULK))
        await gate.was_entered()
        single = await served.batcher.submit([row(7)], Priority.INTERACTIVE, echo)
        assert single.probabilities[0, 0] == 7
        assert not bulk.done()
        gate.open.set()
        await bulk


async def test_a_waiting_row_runs_after_max_wait_though_no_other_row_comes() -> None:
    async with serving(echo, max_wait=0.01) as served:
        assert (await served.submit([row(5)], Priority.INTERACTIVE)).shape == (1, 3)
        assert (await served.submit([row(5)], Priority.BULK)).shape == (1, 3)


async def test_a_single_task_runs_after_max_wait_though_all_shared_threads_are_busy() -> None:
    gate = Gate()
    async with serving(gate, max_wait=0.01) as served:
        bulk = asyncio.create_task(
            served.submit([row(0)] * 4, Priority.BULK)
        )  # full, so that it runs at once
        await gate.was_entered()
        waiting = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        single = await served.batcher.submit([row(7)], Priority.INTERACTIVE, echo)
        assert single.probabilities[0, 0] == 7
        assert not bulk.done()
        assert not waiting.done()
        gate.open.set()
        await asyncio.gather(bulk, waiting)


async def test_a_request_without_room_for_all_its_rows_is_rejected_whole() -> None:
    gate = Gate()
    async with serving(gate, max_waiting_rows=4) as served:
        first = asyncio.create_task(served.submit([row(0)] * 3, Priority.BULK))
        await gate.was_entered()
        with pytest.raises(Overloaded, match="PRELABEL_MAX_WAITING_ROWS"):
            await served.submit([row(1)] * 2, Priority.BULK)
        assert served.waiting_rows == 3
        gate.open.set()
        await first
        await served.submit([row(1)] * 4, Priority.BULK)


async def test_a_request_that_can_never_fit_is_too_large_instead_of_overloaded() -> None:
    async with serving(echo, max_waiting_rows=4) as served:
        with pytest.raises(RequestTooLarge, match=r"5 texts .*\(PRELABEL_MAX_WAITING_ROWS\)\. Send fewer"):
            await served.submit([row(1)] * 5, Priority.BULK)
        assert served.waiting_rows == 0
        await served.submit([row(1)] * 4, Priority.BULK)


async def test_the_rows_of_an_absent_caller_are_never_run() -> None:
    gate = Gate()
    async with serving(gate) as served:
        first = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        left = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert served.waiting_rows == 1
        gate.open.set()
        await first
        await served.submit([row(2)], Priority.BULK)
        assert gate.batches == [[0], [2]]


async def test_a_failure_reaches_the_callers_of_that_batch_only() -> None:
    async with serving(failing) as served:
        results = await asyncio.gather(
            served.submit([row(13)], Priority.INTERACTIVE),
            served.submit([row(1), row(2, 6)], Priority.BULK),
            return_exceptions=True,
        )
        assert isinstance(results[0], EngineFailed)
        assert "secret" not in str(results[0])
        assert isinstance(results[1], np.ndarray)
        assert (await served.submit([row(1)], Priority.INTERACTIVE)).shape == (1, 3)


@pytest.mark.parametrize(
    "output",
    [np.zeros((1, 2)), np.zeros(2), np.full((2, 2), np.nan), None, [[1.0], [1.0, 2.0]], "ab", object()],
    ids=["one row", "one number a row", "nan", "None", "ragged", "text", "object"],
)
async def test_a_wrong_output_of_an_engine_is_an_error_for_its_callers(output: Any) -> None:
    async with serving(lambda rows, length: output) as served:
        with pytest.raises(EngineFailed):
            await served.submit([row(1), row(2)], Priority.BULK)
        assert served.batcher.unhealthy_reason is None


async def test_calls_with_different_numbers_of_classes_are_a_failure_of_the_later_one() -> None:
    def classes_by_length(rows: Sequence[Ids], length: int) -> Floats:
        return np.ones((len(rows), length), dtype=np.float32)

    async with serving(classes_by_length) as served:
        rows = [row(1), row(2, 6), row(3)]
        result = await served.batcher.submit(rows, Priority.BULK, classes_by_length)
        assert result.answered.tolist() == [True, False, True]
        assert isinstance(result.failure, EngineFailed)


async def test_every_waiting_caller_gets_an_error_when_the_server_stops() -> None:
    gate = Gate()
    async with serving(gate) as served:
        running = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        queued = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(served.batcher.__aexit__(None, None, None))
        results = await asyncio.gather(running, queued, return_exceptions=True)
        gate.open.set()
        await stopping
        assert [(type(result), str(result)) for result in results] == [(Unavailable, STOPPING)] * 2
        for late in (
            served.submit([row(1)], Priority.BULK),
            served.batcher.submit([row(1)], Priority.BULK, gate),
        ):
            with pytest.raises(Unavailable, match=STOPPING):
                await late
        assert not served.batcher.crashed
    assert served.crashes == []
    assert gate.batches == [[0]]
    assert served.recorder.abandoned == []


async def test_every_caller_gets_an_error_when_the_scheduling_task_crashes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    async with serving(gate) as served:
        running = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        queued = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        served.buckets.broken = True
        gate.open.set()
        results = await asyncio.gather(queued, return_exceptions=True)
        await running  # its call had ended before the crash
        assert [(type(result), str(result)) for result in results] == [(Unavailable, CRASHED)]
        with pytest.raises(Unavailable, match=CRASHED):
            await served.submit([row(2)], Priority.INTERACTIVE)
        assert served.waiting_rows == 0
        assert (served.batcher.crashed, served.batcher.unhealthy_reason) == (True, CRASHED)
        assert served.crashes == [0]
    assert served.batcher.crashed
    assert served.crashes == [0]
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


class VanishingIds:
    """Token ids that have a length only once, for the queue."""

    lengths = 0

    def __len__(self) -> int:
        self.lengths += 1
        return 3 // (2 - self.lengths)


async def test_a_bug_that_shows_after_a_model_call_crashes_the_batcher_too() -> None:
    def constant(rows: Sequence[Ids], length: int) -> Floats:
        return np.ones((len(rows), 2), dtype=np.float32)

    async with serving(constant) as served:
        rows: Any = [VanishingIds()]
        assert (await served.submit(rows, Priority.BULK)).tolist() == [[1, 1]]
        await until(lambda: served.batcher.crashed)
        assert served.crashes == [0]


async def test_a_request_with_failed_calls_gets_the_results_of_the_others() -> None:
    async with serving(failing) as served:
        result = await served.batcher.submit([row(1), row(13, 6), row(2)], Priority.BULK, failing)
        assert result.answered.tolist() == [True, False, True]
        assert result.probabilities[result.answered, 0].tolist() == [1, 2]
        assert isinstance(result.failure, EngineFailed)
        assert "secret" not in str(result.failure)


async def test_models_never_share_a_batch_and_have_limits_of_their_own() -> None:
    gate, other = Gate(), Gate()
    other.open.set()
    async with serving(gate, max_waiting_rows=2) as served:
        first = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        second = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded), served.batcher.admit(1, Priority.BULK, gate):
            pass
        with served.batcher.admit(2, Priority.BULK, other):
            others = [
                asyncio.create_task(served.batcher.submit([row(i)], Priority.BULK, other)) for i in (2, 3)
            ]
            await asyncio.sleep(0)
            gate.open.set()
            await asyncio.gather(first, second, *others)
        assert gate.batches == [[0], [1]]
        assert other.batches == [[2, 3]]


async def test_an_observer_sees_calls_and_requests_and_callers_that_leave() -> None:
    gate = Gate()
    async with serving(gate) as served:
        first = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        leaves = asyncio.create_task(served.submit([row(1, 6), row(2, 6)], Priority.BULK))
        stays = asyncio.create_task(served.submit([row(3), row(4)], Priority.BULK))
        await asyncio.sleep(0)
        leaves.cancel()
        gate.open.set()
        await asyncio.gather(first, stays, leaves, return_exceptions=True)
        await until(lambda: len(served.recorder.records) == 2)
    assert [(priority, stats.rows) for priority, stats in served.recorder.changes] == [
        (Priority.BULK, rows) for rows in (1, 3, 5, 3, 2, 0)
    ]
    oldest = [stats.oldest for _, stats in served.recorder.changes]
    assert oldest[0] == oldest[1] == oldest[2] == oldest[3] is not None
    assert oldest[5] is None
    assert served.recorder.abandoned == [(Priority.BULK, 2)]
    assert [
        (record.rows, record.length, record.tokens, record.priority, record.run_batch)
        for record in served.recorder.records
    ] == [
        (1, 4, 3, Priority.BULK, gate),
        (2, 4, 6, Priority.BULK, gate),
    ]
    assert all(record.seconds is not None and record.seconds >= 0 for record in served.recorder.records)


async def test_a_failed_call_has_no_seconds() -> None:
    async with serving(failing) as served:
        with pytest.raises(EngineFailed):
            await served.submit([row(13)], Priority.INTERACTIVE)
        await until(lambda: served.recorder.records)
    assert [record.seconds for record in served.recorder.records] == [None]


async def test_callers_have_their_results_before_the_observer_sees_the_call() -> None:
    seen: list[list[bool]] = []

    class Late(BatchObserver):
        def on_batch_done(self, record: BatchRecord) -> None:
            seen.append([request.future.done() for request in served.batcher._pending])

    async with serving(echo, observer=Late()) as served:
        await served.submit([row(1)], Priority.BULK)
        await until(lambda: seen)
    assert all(seen[0])


async def test_an_observer_that_raises_is_logged_once_per_event_and_harms_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    async with serving(gate, max_waiting_rows=2, observer=BrokenObserver()) as served:
        first = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        leaves = asyncio.create_task(served.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        gate.open.set()
        await first
        for _ in range(3):
            await served.submit([row(0)] * 2, Priority.BULK)
        await asyncio.gather(served.submit([row(0)], Priority.INTERACTIVE))
        assert served.waiting_rows == 0
        assert served.batcher.unhealthy_reason is None
    events = ("on_queue_changed", "on_abandoned", "on_batch_done")
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted(logged) == sorted(f"the batch observer failed in {event}; logged once" for event in events)


async def test_a_row_that_the_queue_rejects_fails_its_request_and_leaves_nothing_behind() -> None:
    async with serving(echo) as served:
        with pytest.raises(TypeError):
            await served.submit([row(1), None], Priority.BULK)  # type: ignore[list-item]
        assert served.waiting_rows == 0
        assert served.recorder.abandoned == [(Priority.BULK, 2)]
        assert (await served.submit([row(2)], Priority.BULK))[0, 0] == 2
        with pytest.raises(ValueError, match="at least one row"):
            await served.batcher.submit([], Priority.BULK, echo)


async def test_nothing_runs_before_the_batcher_is_entered_and_after_it_is_left(
    engine_threads: EngineThreadNames,
) -> None:
    batcher = Batcher(
        Buckets((4,), budget=4, max_wait=0, bulk_patience=8),
        EngineThreads(2, call_timeout=PATIENCE, max_hung=1),
        RowAdmission(1),
        BatchObserver(),
    )
    assert engine_threads() == []
    async with batcher:
        assert engine_threads() == ["engine-0", "engine-1", "engine-reserved"]
    assert engine_threads() == []
