"""Whoever is told of model calls: the registry, which builds a failing engine anew, and the metrics. And what
`/metrics` looks up when it is asked.
"""

from server.batching.batcher import Call
from server.batching.buckets import Lane
from server.batching.queue_stats import Waiting
from server.models.registry import Registry
from server.observability.metrics import Metrics


class Watch:
    """The batcher's watcher."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def called(self, call: Call) -> None:
        self._registry.watch(call.runner, call.seconds is not None)
        self._metrics.called(self._registry.bundle_of(call.runner), call)

    def waiting(self, lane: Lane, waiting: Waiting) -> None:
        self._metrics.waiting(lane, waiting)

    def abandoned(self, lane: Lane, rows: int) -> None:
        self._metrics.abandoned(lane, rows)
