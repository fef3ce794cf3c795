"""Batching policy: which rows share a batch and which batch runs next.

A pure data structure; the caller passes the time.

A row goes to the shortest bucket length that holds it. A batch has rows of one group (a group is a model),
one priority and one bucket. It costs rows × bucket length padded tokens, times what a token costs in the
group's engine, which stays within a budget. A row
longer than every bucket is a batch of its own, at its own length. Rows of absent callers are dropped when
their turn comes.

Interactive rows go before bulk rows, but at most `bulk_patience` batches in a row pass waiting bulk rows.
Within a priority, groups share the padded tokens fairly (`fair_share.py`), so that a busy model does not
starve another. Within a group, the due batch with the oldest head runs first.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from server.batching.fair_share import FairShare


class Priority(IntEnum):
    INTERACTIVE = 0
    BULK = 1


class Row(Protocol):
    """One text in the queue: its length in tokens, its priority, its group, and whether its caller left.
    `token_cost` is the same for all rows of a group.
    """

    @property
    def length(self) -> int: ...
    @property
    def token_cost(self) -> int: ...
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
    """Rows of one group, priority and bucket: (arrival in seconds, arrival number, row), oldest first."""

    length: int
    capacity: int
    token_cost: int
    rows: deque[tuple[float, int, R]] = field(default_factory=deque)

    def drop_abandoned_head(self) -> None:
        while self.rows and self.rows[0][2].abandoned:
            self.rows.popleft()


class Buckets(Generic[R]):
    """The queue of all rows.

    `lengths` are bucket lengths in tokens, ascending; `budget` is the maximum cost of a batch, in padded
    tokens of cost 1. A batch is due when it is full or when its oldest row has waited `max_wait` seconds.
    """

    def __init__(self, lengths: Sequence[int], *, budget: int, max_wait: float, bulk_patience: int) -> None:
        self._lengths = tuple(lengths)
        self._max_wait = max_wait
        self._bulk_patience = bulk_patience
        self._bulk_passed_over = 0
        self._arrivals = 0
        self._budget = budget
        self._groups: dict[Hashable, dict[Priority, list[_Queue[R]]]] = {}
        self._shares: FairShare[Hashable] = FairShare()

    def put(self, row: R, now: float) -> None:
        """Add `row` to the queue. O(log buckets)."""
        priorities = self._groups.get(row.group)
        if priorities is None:
            priorities = self._groups[row.group] = {
                priority: self._queues(row.token_cost) for priority in Priority
            }
            self._shares.activate(row.group)
        self._arrivals += 1
        queue = priorities[row.priority][bisect_left(self._lengths, row.length)]
        queue.rows.append((now, self._arrivals, row))

    def pop(self, now: float) -> Batch[R] | None:
        """Remove and return the batch that runs next; None if no batch is due."""
        interactive, bulk = self._due(Priority.INTERACTIVE, now), self._due(Priority.BULK, now)
        self._forget_empty_groups()
        if not interactive or (bulk and self._bulk_passed_over >= self._bulk_patience):
            due = bulk
            self._bulk_passed_over = 0
        else:
            due = interactive
            self._bulk_passed_over = self._bulk_passed_over + 1 if bulk else 0
        return self._take(due)

    def pop_interactive(self, now: float) -> Batch[R] | None:
        """Like `pop` for interactive rows only. Does not count against `bulk_patience`: the caller is a
        thread that never runs bulk batches.
        """
        interactive = self._due(Priority.INTERACTIVE, now)
        self._forget_empty_groups()
        return self._take(interactive)

    def next_due(self, priorities: Iterable[Priority] = Priority) -> float | None:
        """When the oldest row of these priorities has waited `max_wait`; None if there is no row."""
        arrivals = [
            queue.rows[0][0]
            for queues in self._groups.values()
            for priority in priorities
            for queue in queues[priority]
            if queue.rows
        ]
        return min(arrivals) + self._max_wait if arrivals else None

    def _queues(self, token_cost: int) -> list[_Queue[R]]:
        """An empty queue for each bucket; the last is for longer rows, one in each batch."""
        capacities = [max(1, self._budget // (length * token_cost)) for length in self._lengths]
        sizes = zip((*self._lengths, 0), (*capacities, 1), strict=True)
        return [_Queue(length, capacity, token_cost) for length, capacity in sizes]

    def _due(self, priority: Priority, now: float) -> dict[Hashable, _Queue[R]]:
        """For each group with a due batch of this priority, the queue of the batch with the oldest head."""
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
        self._shares.charge(group, len(rows) * batch.length * queue.token_cost)
        return batch

    def _forget_empty_groups(self) -> None:
        empty = [
            group
            for group, priorities in self._groups.items()
            if not any(queue.rows for queues in priorities.values() for queue in queues)
        ]
        for group in empty:
            del self._groups[group]
            self._shares.deactivate(group)
