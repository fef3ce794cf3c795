"""What is counted, for Prometheus. [docs/metrics.md] tells what a person does with each.

    request is over ──envelope──▶ `request`
    model call is over, request enters or leaves, caller left ──batcher──▶ `on_batch_done`, `waiting`, `abandoned`

Labels take few values: routes as the server names them, names of models, bundles and labels, and never what a
client wrote. With several worker processes the library keeps all values in files of a folder that they share
(PROMETHEUS_MULTIPROC_DIR, read when it is imported); `server/observability/metrics_page.py` puts them
together.
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

M = TypeVar("M", "QuickCounter", "QuickGauge", "TalliedHistogram")

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
"""Upper bounds of latencies: from a single task's half millisecond to what Label Studio waits."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of a batch's rows."""

PREFIX = "prelabel_"

Mode = Literal["livesum", "livemin"]

NONE = "none"
"""The label of a request that led to no route or to no model: one value, for a client may have asked for
anything.
"""

ARRIVAL = "queue_oldest_arrival"
"""Kept, and told as an age: seconds of the monotonic clock, which all processes of a host share; infinite
where nobody waits.
"""


class QuickCounter(Counter):
    """The library's `inc` looks at each call whether it may count, and takes examples."""

    def count(self, amount: float = 1) -> None:
        self._value.inc(amount)


class QuickGauge(Gauge):
    def set(self, value: float) -> None:
        self._value.set(value)


class TalliedHistogram(Histogram):
    """A histogram that finds its bucket by halves, and takes many values at once: the library's looks at all
    bounds, and takes them one by one.
    """

    def seen(self, amount: float) -> None:
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
        self._sum.inc(amount)

    def add(self, counts: Sequence[int], total: float) -> None:
        """`counts` by bucket, the last beyond all bounds, and the sum of the values."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class Metrics:
    """One process's. `registry` holds them where it is the only one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests that are over.", "model", "route", "status")
        self._seconds = self._histogram(
            "request_seconds",
            "Seconds from a request's head to the end of its answer.",
            SECONDS,
            "model",
            "route",
        )
        self._stages = self._histogram(
            "stage_seconds",
            "Seconds of a request for predictions by stage, as in Server-Timing.",
            SECONDS,
            "model",
            "stage",
        )
        self._tasks = self._counter(
            "tasks", "Tasks by what became of them: predicted, empty or failed.", "model", "outcome"
        )
        self._refusals = self._counter(
            "refusals", "Requests refused, by the kind of error that the log names.", "model", "reason"
        )
        self._predictions = self._counter(
            "predictions", "Texts by the label that the model finds most probable.", "version", "label"
        )
        self._scores = self._histogram(
            "prediction_score", "Scores of the texts' predictions.", SCORE_BOUNDS, "version"
        )
        self._rows = self._histogram("batch_rows", "Texts in a model call.", ROWS, "bundle", "lane")
        self._tokens = self._counter("batch_tokens", "Tokens of the texts in model calls.", "bundle", "lane")
        self._padded = self._counter(
            "batch_padded_tokens",
            "Texts in model calls times the length that they are padded to.",
            "bundle",
            "lane",
        )
        self._engine = self._counter("engine_seconds", "Seconds of model calls that succeeded.", "bundle")
        self._failures = self._counter("engine_failures", "Model calls that failed.", "bundle")
        self._abandoned = self._counter(
            "abandoned_rows",
            "Texts whose caller left while they waited for a model call or were in one.",
            "lane",
        )
        self._waiting = self._gauge("queue_rows", "Texts admitted and not yet answered.", "livesum", "lane")
        self._arrival = self._gauge(ARRIVAL, "Arrival of the oldest request that waits.", "livemin", "lane")
        self._ready = self._gauge(
            "ready_workers", "Worker processes in which the model answers.", "livesum", "model"
        )
        self._workers = self._gauge("workers", "Worker processes that run.", "livesum")
        self._starts = self._counter(
            "worker_starts", "Worker processes that were started, the first ones too."
        )
        self._threads = self._gauge(
            "engine_threads",
            "Model calls that can run at the same time, that for single tasks included.",
            "livesum",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Callable[..., QuickCounter]:
        return _child(QuickCounter(PREFIX + name, meaning, labels, registry=self.registry), labels)

    def _gauge(self, name: str, meaning: str, mode: Mode, *labels: str) -> Callable[..., QuickGauge]:
        """`mode` is how the values of several processes become one; "live" leaves out those that ended."""
        return _child(
            QuickGauge(PREFIX + name, meaning, labels, registry=self.registry, multiprocess_mode=mode), labels
        )

    def _histogram(
        self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str
    ) -> Callable[..., TalliedHistogram]:
        return _child(
            TalliedHistogram(PREFIX + name, meaning, labels, registry=self.registry, buckets=bounds), labels
        )

    def started(self, threads: int, bundles: Sequence[str]) -> None:
        """This process serves from now on. What has not happened yet is told as 0, so that the first time
        shows as a rise.
        """
        self._starts().count()
        self._workers().set(1)
        self._threads().set(threads)
        for bundle in bundles:
            self._engine(bundle)
            self._failures(bundle)
        for priority in Priority:
            self._abandoned(priority.name.lower())
            self.waiting(priority, PriorityStats())

    def ready(self, model: str, ready: bool) -> None:
        self._ready(model).set(ready)

    def request(self, context: RequestContext, http_stats: HttpStats) -> None:
        """A request is over."""
        model, route = http_stats.model or NONE, http_stats.route or NONE
        self._requests(model, route, http_stats.status).count()
        self._seconds(model, route).seen(http_stats.seconds)
        if context.error is not None:
            self._refusals(model, type(context.error).__name__).count()
        if context.prediction_stats is not None:
            self._predicted(model, context, context.prediction_stats)

    def _predicted(self, model: str, context: RequestContext, prediction_stats: PredictionStats) -> None:
        for stage, seconds in context.seconds.items():
            self._stages(model, stage).seen(seconds)
        empty, failed = context.empty or 0, context.failed or 0
        for outcome, tasks in (
            ("predicted", (context.tasks or 0) - empty - failed),
            ("empty", empty),
            ("failed", failed),
        ):
            if tasks:
                self._tasks(model, outcome).count(tasks)
        for label, texts in zip(prediction_stats.labels, prediction_stats.by_label, strict=True):
            if texts:
                self._predictions(prediction_stats.version, label).count(texts)
        self._scores(prediction_stats.version).add(prediction_stats.by_score, prediction_stats.score_sum)

    def on_batch_done(self, bundle: str, call: BatchRecord) -> None:
        """A model call of `bundle` is over."""
        if call.seconds is None:
            self._failures(bundle).count()
            return
        priority = call.priority.name.lower()
        self._engine(bundle).count(call.seconds)
        self._rows(bundle, priority).seen(call.rows)
        self._tokens(bundle, priority).count(call.tokens)
        self._padded(bundle, priority).count(call.rows * call.length)

    def waiting(self, priority: Priority, waiting: PriorityStats) -> None:
        name = priority.name.lower()
        self._waiting(name).set(waiting.rows)
        self._arrival(name).set(math.inf if waiting.oldest is None else waiting.oldest)

    def abandoned(self, priority: Priority, rows: int) -> None:
        self._abandoned(priority.name.lower()).count(rows)


def _child(metric: M, labels: tuple[str, ...]) -> Callable[..., M]:
    """The metric for values of its `labels`: kept, for looking it up costs the library more than counting.
    Without labels it is itself.
    """
    return cache(metric.labels) if labels else lambda: metric
