"""Events of the batcher, for metrics and for the health of models."""

from dataclasses import dataclass

from server.arrays import RunBatch
from server.batching.buckets import Priority
from server.batching.queue_stats import PriorityStats


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A finished model call: `rows` with `tokens` tokens in total, each row padded to `length`. `seconds` is
    the time in the engine; None if the call failed.
    """

    run_batch: RunBatch
    priority: Priority
    rows: int
    length: int
    tokens: int
    seconds: float | None


class BatchObserver:
    """Base class of observers: override the events of interest.

    Events arrive on the event loop, after the callers have their results. They must return quickly. An
    exception is logged and has no other effect.
    """

    def on_batch_done(self, record: BatchRecord) -> None:
        """A model call finished or failed."""

    def on_queue_changed(self, priority: Priority, stats: PriorityStats) -> None:
        """A request of this priority was admitted or has ended."""

    def on_abandoned(self, priority: Priority, rows: int) -> None:
        """A caller left while `rows` of its rows waited for a model call or were in one."""
