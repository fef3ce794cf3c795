"""Starts a real `prelabel serve` for a benchmark; measures the memory and CPU time of its processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import httpx
import psutil

from tests.e2e.conftest import serving
from tests.ports import reserved_port


@dataclass(frozen=True)
class Served:
    """A running server: an HTTP client for it, and its process; with several workers, their parent."""

    client: httpx.Client
    process: psutil.Process

    def url(self, path: str = "/predict") -> str:
        return f"{str(self.client.base_url).rstrip('/')}{path}"

    def memory_mb(self) -> float:
        return memory_mb(self.process)

    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes since their start."""
        times = [each.cpu_times() for each in process_tree(self.process)]
        return float(sum(each.user + each.system for each in times))


@contextmanager
def served(
    bundle: Path, *options: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Served]:
    """`prelabel serve` with these options and environment variables, on a free loopback port, until the end
    of the block.
    """
    port = reserved_port()
    with (
        TemporaryDirectory() as folder,
        serving(bundle, Path(folder) / "serve.log", *options, port=port, settings=settings) as client,
    ):
        command = [str(bundle), "--port", str(port)]
        process = next(each for each in psutil.Process().children() if set(command) <= set(each.cmdline()))
        yield Served(client, process)


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its children. For several processes it is the sum of their
    proportional shares (PSS), so that shared pages count once.
    """
    processes = process_tree(process)
    # only Linux reports PSS
    found = [each.memory_full_info() for each in processes] if len(processes) > 1 else [process.memory_info()]
    sizes: list[int] = [getattr(each, "pss", each.rss) for each in found]
    return sum(sizes) / 1e6
