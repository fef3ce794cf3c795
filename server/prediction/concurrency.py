"""Cooperative and concurrent maps over the items of one request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from server.errors import PrelabelError

T = TypeVar("T")
U = TypeVar("U")

LOOP_SLICE = 0.001
"""Seconds that one request may hold the event loop before others get their turn."""


async def map_concurrently(function: Callable[[T], Awaitable[U]], items: Sequence[T], most: int) -> list[U]:
    """`function` over `items`, `most` of them at a time, in order. A failure ends the others and is raised."""
    if len(items) == 1:
        return [await function(items[0])]
    results: dict[int, U] = {}
    coming = iter(enumerate(items))

    async def work() -> None:
        for place, item in coming:
            results[place] = await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(most, len(items))):
                group.create_task(work())
    except* PrelabelError as failures:
        raise failures.exceptions[0] from None
    return [results[place] for place in range(len(items))]


async def map_cooperatively(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`function` over `items`, letting others use the event loop after every slice of it."""
    results = []
    end = time.perf_counter() + LOOP_SLICE
    for item in items:
        results.append(function(item))
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + LOOP_SLICE
    return results
