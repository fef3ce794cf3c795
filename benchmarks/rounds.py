"""Interleaved timing: every round runs each variant once, so a slow moment of the machine affects all."""

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import track

Variant = Callable[[], object]
"""One implementation of the work that is compared."""

Clock = Callable[[], float]
"""The time in seconds."""


def medians(variants: Mapping[str, Variant], rounds: int) -> dict[str, float]:
    """Median seconds of each variant."""
    return {name: statistics.median(each) for name, each in measured(variants, rounds).items()}


def measured(
    variants: Mapping[str, Variant], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each variant in each round, after one round of warm-up that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in track(range(rounds + 1), "rounds", console=Console(stderr=True), transient=True):
        for name, variant in variants.items():
            start = clock()
            variant()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def repeated(variant: Variant, count: int) -> Variant:
    """The variant `count` times, for work that is too short to be timed once."""

    def run() -> None:
        for _ in range(count):
            variant()

    return run
