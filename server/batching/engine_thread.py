"""A thread that runs model calls one after another and can be abandoned.

A hung call cannot be cancelled, so its thread can be abandoned; it is a daemon and shutdown does not join it.
ThreadPoolExecutor joins its threads at exit and can lose a worker silently.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class EngineThread:
    """Runs calls from `start` until `end`. No exception of a call ends the thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        # a daemon: the process can exit during a hung call
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Raises RuntimeError if the system has no thread left."""
        self._thread.start()

    def call(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `function` after the calls before it. The future gets its result or its exception."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        """Accept no more calls. The thread ends after the calls that it has."""
        self._calls.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the end of a started thread, at most `timeout` seconds. True if it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            call = None
            try:
                call = self._calls.get()
                if call is None:
                    return
                result = call[0]()
            except BaseException as error:  # also what another thread raises in this one to end it
                if call is not None:
                    _settle_soon(call[1], error=error)
            else:
                _settle_soon(call[1], result)


def _settle_soon(
    future: "asyncio.Future[Any]", result: Any = None, error: BaseException | None = None
) -> None:
    # the loop may be closed by now; then no caller waits
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        future.set_exception(error)
    else:
        # a future rejects StopIteration, and SystemExit would end the loop
        future.set_exception(RuntimeError(f"the call raised {type(error).__name__}"))
