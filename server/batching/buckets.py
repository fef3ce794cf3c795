"""The rule of who waits together and which batch is due. Pure: no waiting, no clock; time is an argument.

A row goes to the shortest bucket length that holds it. A batch is rows of one group (a group is a model), one
lane and one bucket, and costs rows × bucket length padded tokens, which stays under a budget. A row longer
than every bucket is a batch by itself, at its own length. Rows whose caller left are dropped when their turn
comes.

Two lanes: *interactive* rows go before *bulk* rows, and bulk is passed over at most `bulk_patience` batches
in a row. Within a lane, groups with a due batch take turns by what they have used of the padded tokens, so
that a busy model does not starve another; within a group, the due batch is the one whose head has waited
longest.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from server.batching.fair_share import FairShare


class Priority(IntEnum):
    INTERACTIVE = 0
    BULK = 1


class Row(Protocol):
    """One text that waits: its length in tokens, its lane, its group, and whether its caller has left."""

    @property
    def length(self) -> int: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def group(self) -> Hashable: ...
    @property
    def abandoned(self) -> bool: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Batch(Generic[R]):
    """Rows of one group for one model call, in order of arrival, each to be padded to `length` tokens."""

    rows: tuple[R, ...]
    length: int


@dataclass
class _Queue(Generic[R]):
    """One group's rows of one lane and bucket: (arrival in seconds, arrival number, row), oldest first."""

    length: int
    capacity: int
    rows: deque[tuple[float, int, R]] = field(default_factory=deque)

    def drop_abandoned_head(self) -> None:
        while self.rows and self.rows[0][2].abandoned:
            self.rows.popleft()


class Buckets(Generic[R]):
    """All waiting rows. `budget` is in padded tokens a batch, `max_wait` in seconds, `lengths` in tokens,
    rising.
    """

    def __init__(
        self, lengths: Sequence[int], *, budget: int, max_wait: float = 0.0, bulk_patience: int = 8
    ) -> None:
        self._lengths = tuple(lengths)
        self._max_wait = max_wait
        self._bulk_patience = bulk_patience
        self._passed_over = 0
        self._arrivals = 0
        # the last queue of a lane is for rows longer than every bucket: one at a time
        self._sizes = [*((length, max(1, budget // length)) for length in self._lengths), (0, 1)]
        self._groups: dict[Hashable, dict[Priority, list[_Queue[R]]]] = {}
        self._shares: FairShare[Hashable] = FairShare()

    def put(self, row: R, now: float) -> None:
        """Let `row` wait. O(log buckets)."""
        priorities = self._groups.get(row.group)
        if priorities is None:
            priorities = self._groups[row.group] = {
                priority: [_Queue(*size) for size in self._sizes] for priority in Priority
            }
            self._shares.arrive(row.group)
        self._arrivals += 1
        priorities[row.priority][bisect_left(self._lengths, row.length)].rows.append(
            (now, self._arrivals, row)
        )

    def pop(self, now: float) -> Batch[R] | None:
        """The batch that is due at `now`, removed; None when nothing is."""
        interactive, bulk = self._due(Priority.INTERACTIVE, now), self._due(Priority.BULK, now)
        self._forget_idle_groups()
        if not interactive or (bulk and self._passed_over >= self._bulk_patience):
            due = bulk
            self._passed_over = 0
        else:
            due = interactive
            self._passed_over = self._passed_over + 1 if bulk else 0
        return self._take(due)

    def pop_interactive(self, now: float) -> Batch[R] | None:
        """The same of interactive rows alone, for who could not take a bulk batch anyway: it passes nobody
        over.
        """
        interactive = self._due(Priority.INTERACTIVE, now)
        self._forget_idle_groups()
        return self._take(interactive)

    def _take(self, due: dict[Hashable, _Queue[R]]) -> Batch[R] | None:
        if not due:
            return None
        group = self._shares.choose(due)
        queue = due[group]
        rows: list[R] = []
        while queue.rows and len(rows) < queue.capacity:
            row = queue.rows.popleft()[2]
            if not row.abandoned:
                rows.append(row)
        batch = Batch(tuple(rows), queue.length or rows[0].length)
        self._shares.charge(group, len(rows) * batch.length)
        return batch

    def next_due(self) -> float | None:
        """The time at which the oldest waiting row has waited `max_wait`; None when nobody waits."""
        arrivals = [
            queue.rows[0][0]
            for priorities in self._groups.values()
            for queues in priorities.values()
            for queue in queues
            if queue.rows
        ]
        return min(arrivals) + self._max_wait if arrivals else None

    def _due(self, priority: Priority, now: float) -> dict[Hashable, _Queue[R]]:
        """For each group with a due queue in `priority`, the one whose head arrived first; due = a full batch, or
        a head that waited `max_wait`.
        """
        due: dict[Hashable, _Queue[R]] = {}
        for group, priorities in self._groups.items():
            for queue in priorities[priority]:
                queue.drop_abandoned_head()
                if not queue.rows:
                    continue
                full = len(queue.rows) >= queue.capacity
                if (full or now >= queue.rows[0][0] + self._max_wait) and (
                    group not in due or queue.rows[0][1] < due[group].rows[0][1]
                ):
                    due[group] = queue
        return due

    def _forget_idle_groups(self) -> None:
        for group in [
            group
            for group, priorities in self._groups.items()
            if not any(queue.rows for queues in priorities.values() for queue in queues)
        ]:
            del self._groups[group]
            self._shares.leave(group)
