"""The text of `/metrics`: values of all worker processes, and values that are read at each scrape."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from server.observability.metrics import ARRIVAL, PREFIX
from server.observability.worker_files import exclusive, merge_ended

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

ReadMetrics = Callable[[], Iterable[Metric]]
"""Reads metrics at the time of the scrape."""


class MetricsPage:
    """Reads the metric files of several processes in `folder` (`server/observability/worker_files.py`), or
    `registry` if `folder` is None. `readers` are called at each scrape.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        folder: Path | None,
        readers: Iterable[ReadMetrics],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._readers = tuple(readers)
        self._clock = clock

    def text(self) -> bytes:
        """Reads files, so do not call it on the event loop."""
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """Interface of a prometheus_client registry."""
        for metric in self._counted():
            if metric.name == PREFIX + ARRIVAL:
                yield queue_age(metric, self._clock())
            else:
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric
        for read in self._readers:
            yield from read()

    def _counted(self) -> Iterable[Metric]:
        if self._folder is None:
            return self._registry.collect()
        with exclusive(self._folder):
            merge_ended(self._folder)
            return sorted(
                MultiProcessCollector(None, str(self._folder)).collect(), key=lambda metric: metric.name
            )


def queue_age(arrival: Metric, now: float) -> Metric:
    """The age of the oldest request in flight from its `arrival` gauge, by priority."""
    age = GaugeMetricFamily(
        "prelabel_queue_age_seconds",
        "Seconds since the oldest request in flight was admitted; 0 if there is none.",
        labels=("lane",),
    )
    for sample in arrival.samples:
        age.add_metric(
            [sample.labels["lane"]], max(0.0, now - sample.value) if math.isfinite(sample.value) else 0.0
        )
    return age


def info(name: str, description: str, *labels: dict[str, str]) -> Metric:
    """A gauge with the value 1 for each of `labels`."""
    family = Metric(name, description, "gauge")
    for each in labels:
        family.add_sample(name, each, 1.0)
    return family
