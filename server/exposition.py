"""`/metrics`: what all worker processes counted, and what is only looked at when it is asked for.

Several processes count into files of one folder. Counters of one that died stay; what it said of its own state goes with it. A process holds a lock on a
file while it lives: the system lets go of it however it ends, and no other process's number can be taken for it.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from server.metrics import ARRIVAL, PREFIX

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

Look = Callable[[], Iterable[Metric]]
"""What is read when it is asked for."""


class Exposition:
    """The text of `/metrics`. `folder` is that of several processes, None where there is only one, whose metrics are in `registry`."""

    def __init__(self, registry: CollectorRegistry, folder: Path | None, looks: Iterable[Look], clock: Callable[[], float] = time.monotonic) -> None:
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
        forget_dead(self._folder)
        return sorted(MultiProcessCollector(None, str(self._folder)).collect(), key=lambda metric: metric.name)


def queue_age(arrival: Metric, now: float) -> Metric:
    """Seconds that the oldest waiting text has waited, by lane; 0 where none waits."""
    age = GaugeMetricFamily("prelabel_queue_age_seconds", "Seconds that the oldest waiting text has waited; 0 where none waits.", labels=("lane",))
    for sample in arrival.samples:
        age.add_metric([sample.labels["lane"]], max(0.0, now - sample.value) if math.isfinite(sample.value) else 0.0)
    return age


def info(name: str, meaning: str, *labels: dict[str, str]) -> Metric:
    """A gauge that is 1, for what its labels say, once for each of `labels`."""
    family = Metric(name, meaning, "gauge")
    for each in labels:
        family.add_sample(name, each, 1.0)
    return family


def live_in(folder: Path) -> IO[str]:
    """Tells the others that this process lives, as long as what is returned stays open."""
    path = folder / f"{os.getpid()}.starting"
    lock = path.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    path.rename(path.with_suffix(".alive"))  # only now it is looked at
    return lock


def forget_dead(folder: Path) -> None:
    """Takes away what processes said of their own state that live no more."""
    for path in folder.glob("*.alive"):
        try:
            with path.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mark_process_dead(path.stem, str(folder))
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            pass  # it lives, or another process was faster
