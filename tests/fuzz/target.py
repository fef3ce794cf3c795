"""The interface of a target, and the fuzzing loop. Inputs are bytes, so they can be kept as files."""

import hashlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Protocol

import psutil

FOUND = Path(__file__).with_name("found")

MEMORY_MB = 400.0
"""Maximum growth of a process over all inputs of a target, for memory that the allocator keeps. A leak soon
exceeds it.
"""

KEPT = 5
"""Maximum inputs kept per finding."""


class Finding(AssertionError):
    """A target did something that must not happen."""


class Hang(Finding):
    pass


class Target(Protocol):
    """`limit`: seconds per input. `weight`: share of the time."""

    name: str
    limit: float
    weight: float

    def make(self, random: Random) -> bytes:
        """Generate an input."""

    def check(self, data: bytes) -> None:
        """Run an input. Any exception is a finding."""


@dataclass
class Totals:
    """Results of a target. `findings`: number of inputs by finding, which is identified by its origin."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, int] = field(default_factory=dict)
    memory_mb: tuple[float, float] = (0.0, 0.0)

    @property
    def per_s(self) -> float:
        return self.inputs / self.seconds if self.seconds else 0.0


def attack(
    target: Target,
    seed: int,
    go_on: Callable[[Totals], bool],
    on_input: Callable[[Totals], None] | None = None,
    keep: Path | None = FOUND,
    warm_up: int = 100,
) -> Totals:
    """Run inputs generated from `seed` while `go_on` is true. The process may grow only during `warm_up`."""
    random, totals = Random(seed), Totals(target.name)
    before = memory_mb()
    begun = time.perf_counter()
    while go_on(totals):
        data = target.make(random)
        problem = problem_with(target, data)
        totals.inputs += 1
        if problem is not None:
            totals.findings[problem] = totals.findings.get(problem, 0) + 1
            if keep is not None and totals.findings[problem] <= KEPT:
                write(keep, target, data, problem)
        if totals.inputs == warm_up:
            before = memory_mb()
        totals.seconds = time.perf_counter() - begun
        if on_input is not None:
            on_input(totals)
    totals.memory_mb = (before, memory_mb())
    if totals.memory_mb[1] - before > MEMORY_MB:
        totals.findings[f"memory grew from {before:.0f} to {totals.memory_mb[1]:.0f} MB"] = 1
    return totals


def problem_with(target: Target, data: bytes) -> str | None:
    """The finding of `data` on one line, equal for inputs with the same finding. A slow input is run twice,
    because the machine may have been busy.
    """
    for _ in range(2):
        problem, slow = _tried(target, data)
        if not slow:
            return problem
    return problem


def _tried(target: Target, data: bytes) -> tuple[str | None, bool]:
    """The finding of `data`, and whether it is only slow."""
    begun = time.perf_counter()
    try:
        with interrupted(target.limit * 4):
            target.check(data)
    except Exception as error:  # any exception is what we look for
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-2 if isinstance(error, Hang) else -1]
        words = str(error).splitlines()[0][:200] if isinstance(error, Finding) and str(error) else ""
        return (
            f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} {words}".rstrip(),
            isinstance(error, Hang),
        )
    slow = time.perf_counter() - begun > target.limit
    return f"took more than {target.limit:g} s" if slow else None, slow


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise Hang in the block when it exceeds the limit. Only works in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise Hang("did not end in time")


def write(folder: Path, target: Target, data: bytes, problem: str) -> Path:
    """Keep an input with a finding, and a note with the finding and the command that reproduces it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{target.name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(
        f"{target.name}: {problem}\nreplay: .venv/dev/bin/python -m tests.fuzz.run --replay "
        f"tests/fuzz/found/{path.name}\n"
    )
    return path


def memory_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


@contextmanager
def peak_memory_mb() -> Iterator[list[float]]:
    """Peak growth of the process in the block; empty if the system does not report it."""
    grown: list[float] = []
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        yield grown
        return
    reset.write_text("5")
    before = memory_mb()
    yield grown
    peak = next(
        int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM")
    )
    grown.append(peak - before)
