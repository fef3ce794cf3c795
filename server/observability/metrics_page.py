"""`/metrics`: what all worker processes counted, and what is only looked at when it is asked for.

Several processes count into files of one folder (`server/observability/worker_files.py`).
"""

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

Look = Callable[[], Iterable[Metric]]
"""What is read when it is asked for."""


class MetricsPage:
    """The text of `/metrics`. `folder` is that of several processes, None where there is only one, whose
    metrics are in `registry`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        folder: Path | None,
        looks: Iterable[Look],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._looks = tuple(looks)
        self._clock = clock

    def text(self) -> bytes:
        """Reads files: not on the event loop."""
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """As the library asks a registry."""
        for metric in self._counted():
            if metric.name == PREFIX + ARRIVAL:
                yield queue_age(metric, self._clock())
            else:
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric
        for look in self._looks:
            yield from look()

    def _counted(self) -> Iterable[Metric]:
        if self._folder is None:
            return self._registry.collect()
        with exclusive(self._folder):
            merge_ended(self._folder)
            return sorted(
                MultiProcessCollector(None, str(self._folder)).collect(), key=lambda metric: metric.name
            )


def queue_age(arrival: Metric, now: float) -> Metric:
    """Seconds since the oldest request that is not yet answered was admitted, by lane; 0 where there is none."""
    age = GaugeMetricFamily(
        "prelabel_queue_age_seconds",
        "Seconds since the oldest request that is not yet answered was admitted; 0 where there is none.",
        labels=("lane",),
    )
    for sample in arrival.samples:
        age.add_metric(
            [sample.labels["lane"]], max(0.0, now - sample.value) if math.isfinite(sample.value) else 0.0
        )
    return age


def info(name: str, meaning: str, *labels: dict[str, str]) -> Metric:
    """A gauge that is 1, for what its labels say, once for each of `labels`."""
    family = Metric(name, meaning, "gauge")
    for each in labels:
        family.add_sample(name, each, 1.0)
    return family
