"""In-flight rows per priority, and the arrival time of the oldest request."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from server.batching.buckets import Priority


@dataclass(frozen=True, slots=True)
class PriorityStats:
    """Rows in flight, and the arrival of their oldest request in seconds of the caller's clock; None if there
    is no request.
    """

    rows: int = 0
    oldest: float | None = None


@dataclass
class QueueStats:
    """Requests in flight by a key of the caller's choice. Dicts keep the order of arrival: the first entry is
    the oldest.
    """

    _rows: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _arrivals: dict[Priority, dict[Hashable, float]] = field(
        default_factory=lambda: {priority: {} for priority in Priority}
    )

    def enter(self, key: Hashable, priority: Priority, rows: int, now: float) -> PriorityStats:
        self._rows[priority] += rows
        self._arrivals[priority][key] = now
        return self._stats(priority)

    def leave(self, key: Hashable, priority: Priority, rows: int) -> PriorityStats:
        self._rows[priority] -= rows
        del self._arrivals[priority][key]
        return self._stats(priority)

    def _stats(self, priority: Priority) -> PriorityStats:
        return PriorityStats(self._rows[priority], next(iter(self._arrivals[priority].values()), None))
