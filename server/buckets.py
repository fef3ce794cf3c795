"""The rule of who waits together and which batch is due. Pure: no waiting, no clock; time is an argument.

A row goes to the shortest bucket length that holds it. A batch is rows of one lane and one bucket, and costs
rows × bucket length padded tokens, which stays under a budget. A row longer than every bucket is a batch by
itself, at its own length. Rows whose caller left are dropped when their turn comes.

Two lanes: *interactive* rows go before *bulk* rows, and bulk is passed over at most `bulk_patience` batches in
a row. Within a lane, the due batch is the one whose head has waited longest.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, Protocol, TypeVar


class Lane(IntEnum):
    INTERACTIVE = 0
    BULK = 1


class Row(Protocol):
    """One text that waits: its length in tokens, its lane, and whether its caller has left."""

    @property
    def length(self) -> int: ...
    @property
    def lane(self) -> Lane: ...
    @property
    def abandoned(self) -> bool: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Batch(Generic[R]):
    """Rows for one model call, in order of arrival, each to be padded to `length` tokens."""

    rows: tuple[R, ...]
    length: int


@dataclass
class _Queue(Generic[R]):
    """One lane's rows of one bucket: (arrival in seconds, arrival number, row), oldest first."""

    length: int
    capacity: int
    rows: deque[tuple[float, int, R]] = field(default_factory=deque)

    def drop_abandoned_head(self) -> None:
        while self.rows and self.rows[0][2].abandoned:
            self.rows.popleft()


class Buckets(Generic[R]):
    """All waiting rows. `budget` is in padded tokens a batch, `max_wait` in seconds, `lengths` in tokens, rising."""

    def __init__(self, lengths: Sequence[int], *, budget: int, max_wait: float = 0.0, bulk_patience: int = 8) -> None:
        self._lengths = tuple(lengths)
        self._max_wait = max_wait
        self._bulk_patience = bulk_patience
        self._passed_over = 0
        self._arrivals = 0
        # the last queue of a lane is for rows longer than every bucket: one at a time
        capacities = [max(1, budget // length) for length in self._lengths]
        sizes = [*zip(self._lengths, capacities, strict=True), (0, 1)]
        self._lanes: dict[Lane, list[_Queue[R]]] = {lane: [_Queue(length, capacity) for length, capacity in sizes] for lane in Lane}

    def put(self, row: R, now: float) -> None:
        """Let `row` wait. O(log buckets)."""
        self._arrivals += 1
        self._lanes[row.lane][bisect_left(self._lengths, row.length)].rows.append((now, self._arrivals, row))

    def pop(self, now: float) -> Batch[R] | None:
        """The batch that is due at `now`, removed; None when nothing is."""
        interactive = self._head(Lane.INTERACTIVE, now)
        bulk = self._head(Lane.BULK, now)
        if interactive is None or (bulk is not None and self._passed_over >= self._bulk_patience):
            queue = bulk
            self._passed_over = 0
        else:
            queue = interactive
            self._passed_over = self._passed_over + 1 if bulk is not None else 0
        if queue is None:
            return None
        rows: list[R] = []
        while queue.rows and len(rows) < queue.capacity:
            row = queue.rows.popleft()[2]
            if not row.abandoned:
                rows.append(row)
        return Batch(tuple(rows), queue.length or rows[0].length)

    def next_due(self) -> float | None:
        """The time at which the oldest waiting row has waited `max_wait`; None when nobody waits."""
        arrivals = [queue.rows[0][0] for queues in self._lanes.values() for queue in queues if queue.rows]
        return min(arrivals) + self._max_wait if arrivals else None

    def _head(self, lane: Lane, now: float) -> _Queue[R] | None:
        """The lane's due queue whose head arrived first; due = a full batch, or a head that waited `max_wait`."""
        due = None
        for queue in self._lanes[lane]:
            queue.drop_abandoned_head()
            if not queue.rows:
                continue
            full = len(queue.rows) >= queue.capacity
            if (full or now >= queue.rows[0][0] + self._max_wait) and (due is None or queue.rows[0][1] < due.rows[0][1]):
                due = queue
        return due
