"""Prometheus metrics of one process. docs/metrics.md explains each.

They are recorded in two places: RequestMiddleware reports finished requests, and the batch observer reports
model calls and the queue.

Labels have few values, and none that a client wrote: route patterns, and the names of models, bundles, labels
and errors. With several worker processes, prometheus_client keeps the values in files in a shared folder
(PROMETHEUS_MULTIPROC_DIR, read at import), and `server/observability/metrics_page.py` aggregates them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.batching.buckets import Priority
from server.batching.observer import BatchRecord
from server.batching.queue_stats import PriorityStats
from server.observability.access_log import HttpStats, RequestContext
from server.observability.prediction_stats import SCORE_BOUNDS, PredictionStats

M = TypeVar("M", "FastCounter", "FastGauge", "FastHistogram")

SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
)
"""Upper bounds of latency buckets: from 0.5 ms, a single task, to 100 s, Label Studio's timeout."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of the buckets for rows per batch."""

PREFIX = "prelabel_"

Mode = Literal["livesum", "livemin"]

NONE = "none"
"""Label of a request that matched no route or no model."""

ARRIVAL = "queue_oldest_arrival"
"""Gauge of the oldest request in flight, exported as an age: seconds of the monotonic clock, which is the
same in all processes of a host; infinite if no request is in flight.
"""


class FastCounter(Counter):
    """Without the library's checks at every call, and without exemplars."""

    def add(self, amount: float = 1) -> None:
        self._value.inc(amount)


class FastGauge(Gauge):
    """Without the library's checks at every call."""

    def set(self, value: float) -> None:
        self._value.set(value)


class FastHistogram(Histogram):
    """Finds the bucket by bisection and can add many values at once; the library's histogram compares with
    every bound, for one value at a time.
    """

    def add(self, amount: float) -> None:
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
        self._sum.inc(amount)

    def add_counts(self, counts: Sequence[int], total: float) -> None:
        """Add `counts` per bucket, the last one for +Inf, and `total`, the sum of the values."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Metrics:
    """`registry` holds the values if this is the only process; otherwise they are in the shared files."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Finished requests.", "model", "route", "status")
        self._seconds = self._histogram(
            "request_seconds",
            "Seconds from a request's head to the end of its response.",
            SECONDS,
            "model",
            "route",
        )
        self._stages = self._histogram(
            "stage_seconds",
            "Seconds of a prediction request by stage, as in Server-Timing.",
            SECONDS,
            "model",
            "stage",
        )
        self._tasks = self._counter(
            "tasks", "Tasks by outcome: predicted, empty or failed.", "model", "outcome"
        )
        self._truncated = self._counter(
            "truncated_texts", "Texts that were longer than the model reads, and were truncated.", "model"
        )
        self._errors = self._counter(
            "refusals", "Rejected requests by the kind of error, as in the log.", "model", "reason"
        )
        self._predictions = self._counter(
            "predictions", "Texts by the label that the model finds most probable.", "version", "label"
        )
        self._scores = self._histogram(
            "prediction_score", "Scores of the texts' predictions.", SCORE_BOUNDS, "version"
        )
        self._rows = self._histogram("batch_rows", "Texts per model call.", ROWS, "bundle", "lane")
        self._tokens = self._counter(
            "batch_tokens", "Tokens of the texts in model calls, without padding.", "bundle", "lane"
        )
        self._padded = self._counter(
            "batch_padded_tokens",
            "Texts in model calls times their padded length.",
            "bundle",
            "lane",
        )
        self._engine = self._counter("engine_seconds", "Seconds of successful model calls.", "bundle")
        self._failures = self._counter("engine_failures", "Failed model calls.", "bundle")
        self._abandoned = self._counter(
            "abandoned_rows",
            "Texts whose client disconnected or ran out of time before their model call ended.",
            "lane",
        )
        self._in_flight = self._gauge("queue_rows", "Texts of requests in flight.", "livesum", "lane")
        self._arrival = self._gauge(ARRIVAL, "Arrival of the oldest request in flight.", "livemin", "lane")
        self._ready = self._gauge(
            "ready_workers", "Worker processes in which the model works.", "livesum", "model"
        )
        self._workers = self._gauge("workers", "Running worker processes.", "livesum")
        self._starts = self._counter("worker_starts", "Started worker processes, including the first ones.")
        self._threads = self._gauge(
            "engine_threads",
            "Model calls that can run concurrently, including the one reserved for single tasks.",
            "livesum",
        )

    def _counter(self, name: str, description: str, *labels: str) -> Callable[..., FastCounter]:
        return _child(FastCounter(PREFIX + name, description, labels, registry=self.registry), labels)

    def _gauge(self, name: str, description: str, mode: Mode, *labels: str) -> Callable[..., FastGauge]:
        """`mode` says how to aggregate processes; the "live" modes ignore those that have ended."""
        return _child(
            FastGauge(PREFIX + name, description, labels, registry=self.registry, multiprocess_mode=mode),
            labels,
        )

    def _histogram(
        self, name: str, description: str, bounds: tuple[float, ...], *labels: str
    ) -> Callable[..., FastHistogram]:
        return _child(
            FastHistogram(PREFIX + name, description, labels, registry=self.registry, buckets=bounds), labels
        )

    def started(self, threads: int, bundles: Sequence[str], models: Sequence[str]) -> None:
        """This process starts to serve. Creates counters at 0, so that Prometheus sees the first increase."""
        self._starts().add()
        self._workers().set(1)
        self._threads().set(threads)
        for bundle in bundles:
            self._engine(bundle)
            self._failures(bundle)
        for model in models:
            self._truncated(model)
        for priority in Priority:
            self._abandoned(priority.name.lower())
            self.on_queue_changed(priority, PriorityStats())

    def set_ready(self, model: str, ready: bool) -> None:
        self._ready(model).set(ready)

    def on_request_done(self, context: RequestContext, http_stats: HttpStats) -> None:
        """A request has finished."""
        model, route = http_stats.model or NONE, http_stats.route or NONE
        self._requests(model, route, http_stats.status).add()
        self._seconds(model, route).add(http_stats.seconds)
        if context.error is not None:
            self._errors(model, type(context.error).__name__).add()
        if context.prediction_stats is not None:
            self._add_predictions(model, context, context.prediction_stats)

    def _add_predictions(self, model: str, context: RequestContext, stats: PredictionStats) -> None:
        for stage, seconds in context.seconds.items():
            self._stages(model, stage).add(seconds)
        empty, failed = context.empty or 0, context.failed or 0
        for outcome, tasks in (
            ("predicted", (context.tasks or 0) - empty - failed),
            ("empty", empty),
            ("failed", failed),
        ):
            if tasks:
                self._tasks(model, outcome).add(tasks)
        if context.truncated:
            self._truncated(model).add(context.truncated)
        for label, texts in zip(stats.labels, stats.by_label, strict=True):
            if texts:
                self._predictions(stats.version, label).add(texts)
        self._scores(stats.version).add_counts(stats.by_score, stats.score_sum)

    def on_batch_done(self, bundle: str, record: BatchRecord) -> None:
        """A model call of `bundle` finished or failed."""
        if record.seconds is None:
            self._failures(bundle).add()
            return
        priority = record.priority.name.lower()
        self._engine(bundle).add(record.seconds)
        self._rows(bundle, priority).add(record.rows)
        self._tokens(bundle, priority).add(record.tokens)
        self._padded(bundle, priority).add(record.rows * record.length)

    def on_queue_changed(self, priority: Priority, stats: PriorityStats) -> None:
        name = priority.name.lower()
        self._in_flight(name).set(stats.rows)
        self._arrival(name).set(math.inf if stats.oldest is None else stats.oldest)

    def on_abandoned(self, priority: Priority, rows: int) -> None:
        self._abandoned(priority.name.lower()).add(rows)


def _child(metric: M, labels: tuple[str, ...]) -> Callable[..., M]:
    """Returns the metric's child for label values. Children are cached, because looking one up costs more
    than counting. A metric without labels is its own child.
    """
    return cache(metric.labels) if labels else lambda: metric
