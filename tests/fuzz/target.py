"""What is attacked, and the loop that does it. An input is bytes, so that one that finds something is kept as
a file and tried again.
"""

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
"""By which a process may grow over all inputs of a target: what an allocator keeps of the largest. A leak of
any kind passes it soon.
"""

KEPT = 5
"""Inputs that are kept of one finding."""


class Finding(AssertionError):
    """Something that must not happen did."""


class Hang(Finding):
    pass


class Target(Protocol):
    """`limit` in seconds for one input. `weight` is its share of the time."""

    name: str
    limit: float
    weight: float

    def make(self, random: Random) -> bytes:
        """Another input."""

    def check(self, data: bytes) -> None:
        """Any exception is a finding."""


@dataclass
class Tally:
    """What came of a target. `findings` are told by where they come from, with the number of inputs that
    showed each.
    """

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
    go_on: Callable[[Tally], bool],
    on_input: Callable[[Tally], None] | None = None,
    keep: Path | None = FOUND,
    warm_up: int = 100,
) -> Tally:
    """Inputs made from `seed` until `go_on` says no. The process may grow in the first `warm_up`, and then no
    more.
    """
    random, tally = Random(seed), Tally(target.name)
    before = memory_mb()
    begun = time.perf_counter()
    while go_on(tally):
        data = target.make(random)
        problem = problem_with(target, data)
        tally.inputs += 1
        if problem is not None:
            tally.findings[problem] = tally.findings.get(problem, 0) + 1
            if keep is not None and tally.findings[problem] <= KEPT:
                write(keep, target, data, problem)
        if tally.inputs == warm_up:
            before = memory_mb()
        tally.seconds = time.perf_counter() - begun
        if on_input is not None:
            on_input(tally)
    tally.memory_mb = (before, memory_mb())
    if tally.memory_mb[1] - before > MEMORY_MB:
        tally.findings[f"memory grew from {before:.0f} to {tally.memory_mb[1]:.0f} MB"] = 1
    return tally


def problem_with(target: Target, data: bytes) -> str | None:
    """What `data` shows, in one line: the same for inputs that show the same. One that takes long is tried
    twice, for the machine may have been elsewhere.
    """
    for _ in range(2):
        problem, slow = _tried(target, data)
        if not slow:
            return problem
    return problem


def _tried(target: Target, data: bytes) -> tuple[str | None, bool]:
    """What `data` shows, and whether that is only that it takes long."""
    begun = time.perf_counter()
    try:
        with interrupted(target.limit * 4):
            target.check(data)
    except Exception as error:  # whatever it is, it is what we look for
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
    """Ends the block with Hang when it lasts longer. Only the main thread can be interrupted."""
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
    """Keep an input that found something, and beside it what it found and how to try it again."""
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
    """By how much the process was larger at its largest in the block than before it; nothing where the system
    does not tell.
    """
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
