"""The result of a load test: latencies, refused requests, failures and stage timings."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class LoadResult:
    """The requests of one run, whose last response came after `seconds`.

    `latencies` are the seconds of the correct responses, `stages` the medians of their Server-Timing in
    milliseconds. `refused_seconds` are the seconds to a 429 or 503, by status; `failed` counts every other
    response by what was wrong with it.

    `late` and `busy` show whether the client kept up: the 99th percentile of how late requests were sent, in
    seconds, and the share of one core that the client used.
    """

    seconds: float
    tasks: int = 0
    latencies: list[float] = field(default_factory=list)
    refused_seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    late: float = 0.0
    busy: float = 0.0

    @property
    def refused(self) -> int:
        return sum(map(len, self.refused_seconds.values()))

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds

    def ms(self, share: float) -> float:
        """The latency in milliseconds that this share of the requests does not exceed."""
        return quantile(self.latencies, share) * 1000

    def checked(self, *, may_refuse: bool = False) -> "LoadResult":
        """The result itself. With failures, or without a correct response, its figures would mislead: then
        the benchmark ends with the reason.
        """
        wrong = self.failed | (
            {"refused (429 or 503)": self.refused} if self.refused and not may_refuse else {}
        )
        if wrong or not self.latencies:
            reasons = "; ".join(f"{what}: {count}" for what, count in wrong.items()) or "no responses"
            raise SystemExit(f"{len(self.latencies)} correct responses, and failures: {reasons}")
        return self


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def stages_of(server_timing: str) -> dict[str, float]:
    """Milliseconds by stage, from a Server-Timing header."""
    stages = (part.strip().partition(";dur=") for part in server_timing.split(","))
    return {name: float(ms) for name, _, ms in stages if ms}


def median_stages(server_timings: Sequence[bytes]) -> dict[str, float]:
    """Medians by stage over several Server-Timing headers; empty ones do not count."""
    found = [stages_of(each.decode()) for each in server_timings if each]
    return (
        {stage: statistics.median(each.get(stage, 0.0) for each in found) for stage in found[0]}
        if found
        else {}
    )
