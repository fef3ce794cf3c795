"""Who is inside: texts admitted and not yet answered, by lane, and since when the oldest is. Pure: time is an
argument.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from server.batching.buckets import Lane


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one lane: how many texts, and when the first of their requests arrived, in seconds; None where there
    is none.
    """

    rows: int = 0
    oldest: float | None = None


@dataclass
class Inside:
    """Requests by a key of theirs, in the order of arrival, so that the first is the oldest."""

    _rows: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    _arrived: dict[Lane, dict[Hashable, float]] = field(default_factory=lambda: {lane: {} for lane in Lane})

    def enter(self, key: Hashable, lane: Lane, rows: int, now: float) -> Waiting:
        self._rows[lane] += rows
        self._arrived[lane][key] = now
        return self._waiting(lane)

    def leave(self, key: Hashable, lane: Lane, rows: int) -> Waiting:
        self._rows[lane] -= rows
        del self._arrived[lane][key]
        return self._waiting(lane)

    def _waiting(self, lane: Lane) -> Waiting:
        return Waiting(self._rows[lane], next(iter(self._arrived[lane].values()), None))
