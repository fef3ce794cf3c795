"""Passes the batcher's events to the metrics, and the outcome of model calls to the registry."""

from server.batching.buckets import Priority
from server.batching.observer import BatchObserver, BatchRecord
from server.batching.queue_stats import PriorityStats
from server.models.registry import Registry
from server.observability.metrics import Metrics


class ServerBatchObserver(BatchObserver):
    """The registry rebuilds an engine whose calls keep failing."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def on_batch_done(self, record: BatchRecord) -> None:
        self._registry.record_call(record.run_batch, record.seconds is not None)
        self._metrics.on_batch_done(self._registry.bundle_of(record.run_batch), record)

    def on_queue_changed(self, priority: Priority, stats: PriorityStats) -> None:
        self._metrics.on_queue_changed(priority, stats)

    def on_abandoned(self, priority: Priority, rows: int) -> None:
        self._metrics.on_abandoned(priority, rows)
