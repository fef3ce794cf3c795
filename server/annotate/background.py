"""Work in daemon threads, and a stop request that interrupts any wait for it."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> "Future[T]":
    """Run `work` in a daemon thread: unlike a ThreadPoolExecutor's thread, it does not delay the end of the
    process.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # `result` raises it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


class Stopped(Exception):
    """A stop was requested before the result was there."""


class StopRequest:
    """Set once, from any thread or from a signal handler."""

    def __init__(self) -> None:
        self._requested: Future[None] = Future()

    def set(self) -> None:
        with suppress(InvalidStateError):
            self._requested.set_result(None)

    def is_set(self) -> bool:
        return self._requested.done()

    def result_of(self, future: "Future[T]") -> T:
        """The result of `future`. Raises Stopped as soon as a stop is requested, even if `future` still
        runs.
        """
        waited_for: list[Future[Any]] = [future, self._requested]
        wait(waited_for, return_when=FIRST_COMPLETED)
        if self.is_set():
            raise Stopped
        return future.result()
