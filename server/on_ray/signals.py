"""Queues the signals of the command while it waits for the cluster or for the next signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue


class Signals:
    """Queues SIGTERM, SIGINT and SIGHUP in its block, so none is lost between two calls of `wait`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._exit_at_once = False
        self._stopped = False

    def __enter__(self) -> "Signals":
        self._handlers = {
            each: signal.signal(each, self._on_signal)
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._handlers.items():
            signal.signal(each, handler)

    def wait(self) -> int:
        return self._queue.get()

    @contextmanager
    def exit_on_stop(self) -> Iterator[None]:
        """For a block that may wait indefinitely for free resources on the cluster: SIGTERM and Ctrl-C, also
        earlier ones, raise SystemExit in it.
        """
        self._exit_at_once = True
        try:
            if self._stopped:
                raise SystemExit(0)
            yield
        finally:
            self._exit_at_once = False

    def _on_signal(self, number: int, _: object) -> None:
        self._stopped = self._stopped or number != signal.SIGHUP
        if self._exit_at_once and self._stopped:
            raise SystemExit(0)
        self._queue.put(number)
