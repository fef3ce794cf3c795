"""Micro-batches, and what runs at the same time."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import EngineFailed
from server.prediction.concurrency import map_concurrently
from server.prediction.micro_batches import MICRO_BATCH_CHARACTERS, micro_batches


@given(st.lists(st.integers(0, 2 * MICRO_BATCH_CHARACTERS), max_size=30), st.integers(1, 5))
def test_micro_batches_are_bounded_in_items_and_characters(sizes: list[int], most: int) -> None:
    batches = [*micro_batches(sizes, lambda size: size, most)]
    assert [size for batch in batches for size in batch] == sizes
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(batch) <= MICRO_BATCH_CHARACTERS


def test_a_micro_batch_is_as_large_as_it_may_be() -> None:
    assert [*micro_batches("abcde", lambda _: MICRO_BATCH_CHARACTERS // 2, 3)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]
    assert [*micro_batches("abcde", lambda _: 1, 3)] == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.anyio
@pytest.mark.parametrize("items", [0, 1, 2, 7])
async def test_results_are_in_order_and_items_are_taken_when_they_run(items: int) -> None:
    taken = list[int]()
    running = most_running = 0

    def take() -> Iterator[int]:
        for item in range(items):
            taken.append(item)
            yield item

    async def double(item: int) -> int:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        assert len(taken) <= item + 3
        await asyncio.sleep(0)
        running -= 1
        return 2 * item

    assert await map_concurrently(double, take(), 3) == [2 * item for item in range(items)]
    assert most_running == min(3, items)


@pytest.mark.anyio
async def test_a_failure_cancels_the_others() -> None:
    cancelled = list[int]()

    async def fail(item: int) -> None:
        try:
            await asyncio.sleep(0)
            if item == 1:
                raise EngineFailed("no")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(EngineFailed, match="no"):
        await map_concurrently(fail, range(9), 3)
    assert sorted(cancelled) == [0, 2]
