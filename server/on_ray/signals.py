"""The signals that the command gets while it waits: for the cluster, or for what it is told next."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue


class Signals:
    """The signals that this process gets while the block lasts. None is lost between one that waits for it
    and the next.
    """

    def __init__(self) -> None:
        self._heard: SimpleQueue[int] = SimpleQueue()
        self._leaves = False
        self._ended = False

    def __enter__(self) -> "Signals":
        self._before = {
            each: signal.signal(each, self._hear) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def wait(self) -> int:
        return self._heard.get()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """While the block lasts, which may wait for ever for room on the cluster, SIGTERM and Ctrl-C end it,
        also those that came before. Raises SystemExit.
        """
        self._leaves = True
        try:
            if self._ended:
                raise SystemExit(0)
            yield
        finally:
            self._leaves = False

    def _hear(self, number: int, _: object) -> None:
        self._ended = self._ended or number != signal.SIGHUP
        if self._leaves and self._ended:
            raise SystemExit(0)
        self._heard.put(number)
