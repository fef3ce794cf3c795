"""Ways of doing the same, timed one beside another: in every round each of them once, so that a slow moment
of the machine meets all.
"""

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import track

Way = Callable[[], object]


def medians(ways: Mapping[str, Way], rounds: int) -> dict[str, float]:
    """Seconds of each way."""
    return {name: statistics.median(each) for name, each in measured(ways, rounds).items()}


def measured(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in track(range(rounds + 1), "rounds", console=Console(stderr=True), transient=True):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def repeated(way: Way, count: int) -> Way:
    """For what is too short for a clock."""

    def run() -> None:
        for _ in range(count):
            way()

    return run
