"""A thread for model calls, one at a time, that can be left behind.

Nobody can stop a call that hangs. What can be done is to wait for it no longer, at the end of the process
least of all; the standard library's pools wait for their threads, and lose one without a word where something
in it is raised outside of a call.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class ModelThread:
    """Runs what it is given until `end`. It never dies of an exception, whatever its kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        # a daemon: a process may end while it hangs
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """`function`, after the calls before it. What it raises the future raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        """No more calls; it ends when those it was given have."""
        self._calls.put(None)

    def join(self, timeout: float) -> bool:
        """Wait, for `timeout` seconds at most; whether it has ended."""
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
            except BaseException as error:  # also what is raised from outside to end a thread
                if call is not None:
                    _settle_soon(call[1], error=error)
            else:
                _settle_soon(call[1], result)


def _settle_soon(
    future: "asyncio.Future[Any]", result: Any = None, error: BaseException | None = None
) -> None:
    # the loop may be closed by now, and nobody wait
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
        # a future does not take StopIteration, and a loop is ended by SystemExit
        future.set_exception(RuntimeError(f"the call raised {type(error).__name__}"))
