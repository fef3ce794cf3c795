"""Who is inside: texts admitted and not yet answered, by lane, and since when the oldest is. Pure: time is an
argument.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from server.batching.buckets import Priority


@dataclass(frozen=True, slots=True)
class PriorityStats:
    """Of one lane: how many texts, and when the first of their requests arrived, in seconds; None where there
    is none.
    """

    rows: int = 0
    oldest: float | None = None


@dataclass
class QueueStats:
    """Requests by a key of theirs, in the order of arrival, so that the first is the oldest."""

    _rows: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _arrived: dict[Priority, dict[Hashable, float]] = field(
        default_factory=lambda: {priority: {} for priority in Priority}
    )

    def enter(self, key: Hashable, priority: Priority, rows: int, now: float) -> PriorityStats:
        self._rows[priority] += rows
        self._arrived[priority][key] = now
        return self._waiting(priority)

    def leave(self, key: Hashable, priority: Priority, rows: int) -> PriorityStats:
        self._rows[priority] -= rows
        del self._arrived[priority][key]
        return self._waiting(priority)

    def _waiting(self, priority: Priority) -> PriorityStats:
        return PriorityStats(self._rows[priority], next(iter(self._arrived[priority].values()), None))
