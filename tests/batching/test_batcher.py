"""The batcher with runners written by hand: who gets which answer, and that nobody waits for ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from server.arrays import Floats, Ids, RunBatch
from server.batching.batcher import Batcher, BatchRecord
from server.batching.buckets import Buckets, Priority
from server.batching.queue_stats import PriorityStats
from server.errors import EngineFailed, Overloaded, Unavailable

pytestmark = pytest.mark.anyio


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


@dataclass
class Watched:
    """What a batcher told its watcher."""

    calls: list[BatchRecord] = field(default_factory=list)
    priorities: list[tuple[Priority, PriorityStats]] = field(default_factory=list)
    left: list[tuple[Priority, int]] = field(default_factory=list)

    def on_batch_done(self, call: BatchRecord) -> None:
        self.calls.append(call)

    def waiting(self, priority: Priority, waiting: PriorityStats) -> None:
        self.priorities.append((priority, waiting))

    def abandoned(self, priority: Priority, rows: int) -> None:
        self.left.append((priority, rows))


@dataclass
class Served:
    """A batcher that runs, the runner that is meant where none is named, and what it told."""

    batcher: Batcher
    run_batch: RunBatch
    told: Watched

    async def submit(self, rows: Sequence[Ids], priority: Priority) -> Floats:
        with self.batcher.admit(len(rows), priority, self.run_batch):
            outcome = await self.batcher.submit(rows, priority, self.run_batch)
        if outcome.failure is not None:
            assert not outcome.answered.any()
            raise outcome.failure
        assert outcome.answered.all()
        return outcome.probabilities

    @property
    def waiting_rows(self) -> int:
        return self.batcher.waiting_rows


@asynccontextmanager
async def serving(
    run_batch: RunBatch, threads: int = 1, max_waiting_rows: int = 100, max_wait: float = 0.0
) -> AsyncIterator[Served]:
    watched = Watched()
    batcher = Batcher(
        Buckets((4, 8), budget=16, max_wait=max_wait),
        threads,
        max_waiting_rows=max_waiting_rows,
        observer=watched,
    )
    task = asyncio.create_task(batcher.serve())
    try:
        yield Served(batcher, run_batch, watched)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(batcher.close)


class Gate:
    """A runner that tells when it was entered and answers when it is let go."""

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


async def test_answers_come_in_the_order_of_the_rows_whatever_their_lengths() -> None:
    async with serving(echo, threads=2) as batcher:
        rows = [row(i, 1 + (i * 7) % 30) for i in range(60)]
        answers = await batcher.submit(rows, Priority.BULK)
        assert answers[:, 0].tolist() == list(range(60))
        assert answers[:, 1].tolist() == [len(each) for each in rows]
        assert batcher.waiting_rows == 0


async def test_many_callers_share_a_model_call() -> None:
    gate = Gate()
    async with serving(gate) as batcher:
        first = asyncio.create_task(batcher.submit([row(0)], Priority.INTERACTIVE))
        await gate.was_entered()
        others = [asyncio.create_task(batcher.submit([row(i)], Priority.INTERACTIVE)) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        gate.open.set()
        answers = await asyncio.gather(first, *others)
        assert [int(answer[0, 0]) for answer in answers] == [0, 1, 2, 3]
        assert gate.batches == [[0], [1, 2, 3]]


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


async def test_a_waiting_head_is_run_when_its_wait_is_over_though_nobody_else_comes() -> None:
    async with serving(echo, max_wait=0.01) as batcher:
        assert (await batcher.submit([row(5)], Priority.INTERACTIVE)).shape == (1, 3)


async def test_a_request_without_room_for_all_its_rows_is_refused_whole() -> None:
    gate = Gate()
    async with serving(gate, max_waiting_rows=4) as batcher:
        first = asyncio.create_task(batcher.submit([row(0)] * 3, Priority.BULK))
        await gate.was_entered()
        with pytest.raises(Overloaded, match="PRELABEL_MAX_WAITING_ROWS"):
            await batcher.submit([row(1)] * 2, Priority.BULK)
        assert batcher.waiting_rows == 3
        gate.open.set()
        await first
        await batcher.submit([row(1)] * 4, Priority.BULK)


async def test_the_rows_of_a_caller_who_left_are_never_run() -> None:
    gate = Gate()
    async with serving(gate) as batcher:
        first = asyncio.create_task(batcher.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        left = asyncio.create_task(batcher.submit([row(1)], Priority.BULK))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert batcher.waiting_rows == 1
        gate.open.set()
        await first
        await batcher.submit([row(2)], Priority.BULK)
        assert gate.batches == [[0], [2]]


async def test_a_failure_reaches_the_callers_of_that_batch_only() -> None:
    async with serving(failing) as batcher:
        answers = await asyncio.gather(
            batcher.submit([row(13)], Priority.INTERACTIVE),
            batcher.submit([row(1), row(2, 6)], Priority.BULK),
            return_exceptions=True,
        )
        assert isinstance(answers[0], EngineFailed)
        assert "secret" not in str(answers[0])
        assert isinstance(answers[1], np.ndarray)
        assert (await batcher.submit([row(1)], Priority.INTERACTIVE)).shape == (1, 3)


@pytest.mark.parametrize("answer", [np.zeros((1, 2)), np.zeros(2), np.full((2, 2), np.nan)])
async def test_nonsense_from_an_engine_is_an_error_and_not_an_answer(answer: Floats) -> None:
    async with serving(lambda rows, length: answer) as batcher:
        with pytest.raises(EngineFailed):
            await batcher.submit([row(1), row(2)], Priority.BULK)


async def test_whoever_waits_when_the_server_stops_is_told() -> None:
    gate = Gate()
    async with serving(gate) as batcher:
        waiting = [asyncio.create_task(batcher.submit([row(i)], Priority.BULK)) for i in range(3)]
        await gate.was_entered()
        gate.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, Unavailable | np.ndarray) for answer in answers)
    with pytest.raises(Unavailable):
        await batcher.submit([row(1)], Priority.BULK)


async def test_of_a_request_whose_model_calls_failed_in_part_the_rest_is_answered() -> None:
    async with serving(failing) as served:
        outcome = await served.batcher.submit([row(1), row(13, 6), row(2)], Priority.BULK, failing)
        assert outcome.answered.tolist() == [True, False, True]
        assert outcome.probabilities[outcome.answered, 0].tolist() == [1, 2]
        assert isinstance(outcome.failure, EngineFailed)
        assert "secret" not in str(outcome.failure)


async def test_runners_never_share_a_batch_and_have_rooms_of_their_own() -> None:
    gate, other = Gate(), Gate()
    other.open.set()
    async with serving(gate, max_waiting_rows=2) as served:
        first = [asyncio.create_task(served.submit([row(i)], Priority.BULK)) for i in (0, 1)]
        await gate.was_entered()
        with pytest.raises(Overloaded):
            served.batcher.admit(1, Priority.BULK, gate).__enter__()
        second = [asyncio.create_task(served.batcher.submit([row(i)], Priority.BULK, other)) for i in (2, 3)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(*first, *second)
        assert gate.batches == [[0], [1]] or gate.batches == [[0, 1]]
        assert other.batches == [[2, 3]]


async def test_a_watcher_is_told_of_calls_of_who_is_inside_and_of_who_left() -> None:
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
    assert [(priority, waiting.rows) for priority, waiting in served.told.priorities] == [
        (Priority.BULK, rows) for rows in (1, 3, 5, 3, 2, 0)
    ]
    oldest = [waiting.oldest for _, waiting in served.told.priorities]
    assert oldest[0] == oldest[1] == oldest[2] == oldest[3] is not None
    assert oldest[5] is None
    assert served.told.left == [(Priority.BULK, 2)]
    assert [
        (call.rows, call.length, call.tokens, call.priority, call.run_batch) for call in served.told.calls
    ] == [
        (1, 4, 3, Priority.BULK, gate),
        (2, 4, 6, Priority.BULK, gate),
    ]
    assert all(call.seconds is not None and call.seconds >= 0 for call in served.told.calls)


async def test_a_failed_call_is_told_without_seconds_and_a_stop_is_nobodys_leaving() -> None:
    async with serving(failing) as served:
        with pytest.raises(EngineFailed):
            await served.submit([row(13)], Priority.INTERACTIVE)
    assert [call.seconds for call in served.told.calls] == [None]
    gate = Gate()
    async with serving(gate) as served:
        waits = asyncio.create_task(served.submit([row(0)], Priority.BULK))
        await gate.was_entered()
        gate.open.set()
    with pytest.raises(Unavailable):
        await waits
    assert served.told.left == []
