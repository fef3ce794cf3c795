"""Limits the rows in flight per model: a request is admitted whole or not at all."""

from collections import Counter
from collections.abc import Hashable

from server.arrays import RunBatch
from server.batching.buckets import Priority
from server.batching.queue_stats import PriorityStats, QueueStats
from server.errors import Overloaded, RequestTooLarge


class RowAdmission:
    """Counts rows that are admitted and not yet answered, at most `max_waiting_rows` per model. Pure; the
    caller passes the time.
    """

    def __init__(self, max_waiting_rows: int) -> None:
        self._max_waiting_rows = max_waiting_rows
        self._waiting: Counter[RunBatch] = Counter()
        self._admitted: dict[Hashable, tuple[int, Priority, RunBatch]] = {}
        self._stats = QueueStats()

    @property
    def waiting_rows(self) -> int:
        """Rows in flight of all models."""
        return self._waiting.total()

    def enter(
        self, key: Hashable, rows: int, priority: Priority, run_batch: RunBatch, now: float
    ) -> PriorityStats:
        """Admit `rows` rows until `leave` is called with the same key.

        Raises RequestTooLarge if the rows can never fit, Overloaded if they do not fit now.
        """
        if rows > self._max_waiting_rows:
            raise RequestTooLarge(
                f"The request has {rows} texts for one model; the limit is {self._max_waiting_rows} "
                "(PRELABEL_MAX_WAITING_ROWS). Send fewer tasks per request, or raise the setting."
            )
        waiting = self._waiting[run_batch]
        if waiting + rows > self._max_waiting_rows:
            raise Overloaded(
                f"{waiting} texts are waiting and {rows} more would exceed the limit of "
                f"{self._max_waiting_rows} (PRELABEL_MAX_WAITING_ROWS); send the request again later."
            )
        self._waiting[run_batch] += rows
        self._admitted[key] = rows, priority, run_batch
        return self._stats.enter(key, priority, rows, now)

    def leave(self, key: Hashable) -> PriorityStats:
        """The request of `key` has ended, in whatever way."""
        rows, priority, run_batch = self._admitted.pop(key)
        self._waiting[run_batch] -= rows
        if not self._waiting[run_batch]:
            del self._waiting[run_batch]
        return self._stats.leave(key, priority, rows)
