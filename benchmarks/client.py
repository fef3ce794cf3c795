"""Starts `benchmarks.load_generator` in a process of its own and reads its result.

Options are those of its command line: `clients=16, seconds=3` is `--clients 16 --seconds 3`.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.load_result import LoadResult

T = TypeVar("T")

ROOT = Path(__file__).parent.parent


def run(url: str, bodies: Sequence[bytes], **options: Any) -> LoadResult:
    """One run to its end; the options must hold `seconds` or `requests`."""
    with started(url, bodies, **options) as load:
        return load.result()


def run_during(
    url: str, bodies: Sequence[bytes], work: Callable[[], T], **options: Any
) -> tuple[T, LoadResult]:
    """What `work` returns, and the result of the load that ran meanwhile."""
    with started(url, bodies, **options) as load:
        return work(), load.result()


class LoadProcess:
    """A load generator that has begun to count."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def stop(self) -> None:
        """Send no more requests; a run with `seconds` or `requests` goes on to its own end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None

    def result(self) -> LoadResult:
        """Waits for the end of the run and for the responses of requests in flight."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"The load generator ended with status {self._process.returncode}.")
        return LoadResult(**msgspec.json.decode(output))


@contextmanager
def started(
    url: str, bodies: Sequence[bytes], expected: Sequence[bytes] = (), **options: Any
) -> Iterator[LoadProcess]:
    """A load generator that has begun to count; `expected` are the responses to the bodies, if they are to be
    compared. It is killed at the end of the block.
    """
    command = [sys.executable, "-m", "benchmarks.load_generator", url]
    for name, value in options.items():
        command += (
            [f"--{name.replace('_', '-')}"]
            if value is True
            else [f"--{name.replace('_', '-')}", str(value)]
            if value
            else []
        )
    if expected:
        command.append("--known")
        bodies = [line for pair in zip(bodies, expected, strict=True) for line in pair]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very program
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101 - the same
        try:
            process.stdin.write(b"\n".join([*bodies, b"\n"]))
            process.stdin.flush()
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"The load could not start: {url} gave no correct response.")
            yield LoadProcess(process)
        finally:
            process.kill()
