"""Whoever is told of model calls: the registry, which builds a failing engine anew, and the metrics. And what
`/metrics` looks up when it is asked.
"""

from server.batching.batcher import BatchRecord
from server.batching.buckets import Priority
from server.batching.queue_stats import PriorityStats
from server.models.registry import Registry
from server.observability.metrics import Metrics


class ServerBatchObserver:
    """The batcher's watcher."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def on_batch_done(self, call: BatchRecord) -> None:
        self._registry.watch(call.run_batch, call.seconds is not None)
        self._metrics.on_batch_done(self._registry.bundle_of(call.run_batch), call)

    def waiting(self, priority: Priority, waiting: PriorityStats) -> None:
        self._metrics.waiting(priority, waiting)

    def abandoned(self, priority: Priority, rows: int) -> None:
        self._metrics.abandoned(priority, rows)
