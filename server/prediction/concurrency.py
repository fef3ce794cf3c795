"""Concurrent maps over the parts of one request, and work that leaves the event loop when it is long."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sized
from typing import ParamSpec, TypeVar

from server.errors import PrelabelError
from server.threads import in_thread

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


async def map_concurrently(function: Callable[[T], Awaitable[U]], items: Iterable[T], most: int) -> list[U]:
    """`function` over `items`, at most `most` at a time; results in the order of the items. An item is taken
    from the iterable only when it is about to run. The first failure cancels the others and is raised.
    """
    if isinstance(items, Sized) and len(items) == 1:
        return [await function(item) for item in items]
    results: list[U | None] = []
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            index = len(results)
            results.append(None)
            results[index] = await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(work())
    except* PrelabelError as failures:
        raise failures.exceptions[0] from None
    return results  # type: ignore[return-value]  # every item has its result by now


async def run(is_long: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function` with its arguments: in a thread if it is long, else at once."""
    if is_long:
        return await in_thread(function, *args, **kwargs)
    return function(*args, **kwargs)
