"""Supervises the engine threads: a hung model call is abandoned together with its thread."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from server.batching.engine_thread import EngineThread
from server.errors import EngineFailed

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _HungCall:
    """A call that missed its timeout, its thread, and the pool of idle threads that the thread belongs to."""

    thread: EngineThread
    idle: deque[EngineThread]


class EngineThreads:
    """`shared` threads for any batch, and one thread reserved for interactive batches, which therefore never
    wait for a bulk call.

    A call that takes more than `call_timeout` seconds has failed. Its thread is replaced, unless more than
    `max_hung` calls hang: then threads stay missing until enough calls return. Every method runs on the event
    loop.
    """

    def __init__(self, shared: int, *, call_timeout: float, max_hung: int) -> None:
        self._shared = deque(EngineThread(f"engine-{i}") for i in range(shared))
        self._reserved = deque([EngineThread("engine-reserved")])
        self._threads = {*self._shared, *self._reserved}
        self._call_timeout = call_timeout
        self._max_hung = max_hung
        self._hung: set[_HungCall] = set()
        self._unreplaced: deque[_HungCall] = deque()
        self._on_change: Callable[[], None] = lambda: None
        self._closed = False

    def start(self, on_change: Callable[[], None]) -> None:
        """Start all threads. `on_change` is called whenever a call has ended or a thread has become idle."""
        self._on_change = on_change
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """End all threads. Waits for their calls, together at most `call_timeout` seconds; hung calls do not
        count.
        """
        self._closed = True
        threads = self._threads - {hung.thread for hung in self._hung}
        for thread in self._threads:
            thread.end()
        await asyncio.to_thread(_join_all, threads, self._call_timeout)

    @property
    def idle(self) -> bool:
        """Whether a shared thread is idle."""
        return bool(self._shared)

    @property
    def reserved_idle(self) -> bool:
        return bool(self._reserved)

    @property
    def unhealthy_reason(self) -> str | None:
        """Why threads are missing; None if every hung one was replaced."""
        if not self._unreplaced:
            return None
        return f"{len(self._hung)} model calls hang and their threads are not replaced; restart the server."

    def run(
        self,
        call: Callable[[], T],
        on_done: Callable[[T | BaseException], None],
        *,
        reserved: bool = False,
    ) -> None:
        """Run `call` on an idle thread; there must be one. `on_done` gets the result or the exception, once;
        EngineFailed if the call hangs.
        """
        idle = self._reserved if reserved else self._shared
        thread = idle.popleft()

        def finish(future: "asyncio.Future[T]") -> None:
            timer.cancel()
            idle.append(thread)
            on_done(future.exception() or future.result())
            self._on_change()

        def give_up() -> None:
            if future.done():
                return  # it returned a moment ago, and `finish` is about to run
            future.remove_done_callback(finish)
            self._abandon(future, _HungCall(thread, idle))
            on_done(
                EngineFailed(
                    f"The model call took more than {self._call_timeout:g} s (PRELABEL_CALL_TIMEOUT)."
                )
            )
            self._on_change()

        future = thread.call(call)
        future.add_done_callback(finish)
        timer = asyncio.get_running_loop().call_later(self._call_timeout, give_up)

    def _abandon(self, future: "asyncio.Future[T]", hung: _HungCall) -> None:
        def returned(future: "asyncio.Future[T]") -> None:
            future.exception()  # mark as retrieved: the callers already have an error
            self._hung.discard(hung)
            if hung in self._unreplaced:
                self._unreplaced.remove(hung)
                hung.idle.append(hung.thread)
            self._replace_hung()
            self._on_change()

        self._hung.add(hung)
        self._unreplaced.append(hung)
        self._replace_hung()
        future.add_done_callback(returned)

    def _replace_hung(self) -> None:
        while (
            self._unreplaced and len(self._hung) - len(self._unreplaced) < self._max_hung and not self._closed
        ):
            hung = self._unreplaced[0]
            thread = EngineThread(hung.thread.name)
            try:
                thread.start()
            except RuntimeError as error:
                log.error("cannot start a thread to replace that of a hung call", exc_info=error)
                return
            self._unreplaced.popleft()
            self._threads = self._threads - {hung.thread} | {thread}
            hung.idle.append(thread)
            hung.thread.end()


def _join_all(threads: set[EngineThread], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
