"""The thread that parses new labeling configs, so that they do not occupy the threads that requests share."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from server.errors import Overloaded

T = TypeVar("T")

MAX_PARSES = 16
"""Configs that are being parsed or wait for it. A parse goes on after its client has gone, so the slots of
requests do not bound them.
"""


class Parse(Generic[T]):
    """One config in the thread, or in its queue. Several callers may wait for it."""

    task: asyncio.Task[T]

    def __init__(self) -> None:
        self.has_begun = False
        self.callers = 0

    async def result(self) -> T:
        """Raises what the work raises. A parse that has begun goes on when its callers leave: its result is
        for their next request.
        """
        self.callers += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.callers -= 1

    @property
    def is_unwanted(self) -> bool:
        return not self.callers and not self.has_begun


class ParseThread:
    """Runs one parse at a time, in order. The thread starts with the first; `close` ends it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="config")
        self._is_free = asyncio.Lock()  # the executor's own queue would keep what is cancelled
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Callable[[], T]) -> Parse[T]:
        """Raises Overloaded."""
        if len(self._tasks) >= MAX_PARSES:
            raise Overloaded(f"{MAX_PARSES} new labeling configs are being parsed; retry later.")
        parse = Parse[T]()
        parse.task = asyncio.create_task(self._run(parse, work))
        self._tasks.add(parse.task)
        parse.task.add_done_callback(self._tasks.discard)
        return parse

    async def _run(self, parse: Parse[T], work: Callable[[], T]) -> T:
        async with self._is_free:
            parse.has_begun = True
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Ends the thread, after the parse that it runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
