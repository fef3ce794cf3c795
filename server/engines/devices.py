"""Which devices a model runs on: the words of the setting `device`, and the fixed shapes that a GPU is given
its work in.

auto                 CUDA where it works, else the CPU
cpu
cuda, cuda:1         the first GPU, or the one of that number
cuda:0,cuda:1        several GPUs, one engine each
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEVICES = re.compile(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*")

NVIDIA = Path("/dev/nvidiactl")
"""There where the NVIDIA driver is, in containers too."""

IN_FLIGHT = 3
"""Calls of one GPU at the same time: two that keep it busy, one copying while the other computes, and one of
the interactive lane.
"""

BUCKET_LENGTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
"""Default padded lengths in tokens, ascending."""

CPU_BATCH_TOKENS = 8_192
"""Default maximum of padded tokens in one model call on a CPU."""

GPU_BATCH_TOKENS = 65_536
"""The same on a GPU."""

GPU_MEM_LIMIT = 8 * 2**30
"""Default maximum of GPU memory for one engine, in bytes."""


def cuda_devices(setting: str) -> tuple[str, ...]:
    """The GPUs that `auto`, `cuda` or a list of them names, such as `cuda:0`. Raises ValueError for words
    that are none.
    """
    words = setting.replace(" ", "")
    if not DEVICES.fullmatch(words):
        raise ValueError("must be auto, cpu, cuda, or GPUs by number such as cuda:1 or cuda:0,cuda:1")
    if words in ("auto", "cuda"):
        return ("cuda:0",)
    names = tuple(words.split(",")) if words != "cpu" else ()
    if len(set(names)) < len(names):
        raise ValueError("names a GPU twice")
    return names


def number_of(device: str) -> int:
    """cuda:1 → 1."""
    return int(device.partition(":")[2])


@dataclass(frozen=True)
class Shape:
    rows: int
    length: int


@dataclass(frozen=True)
class Grid:
    """The shapes that a GPU is given: `lengths` in tokens, rising; rows in powers of two, up to `budget`
    padded tokens.

    Few enough to be prepared and run before the first request, and close enough that less than half of one is
    padding rows.
    """

    lengths: tuple[int, ...]
    budget: int

    def most_rows(self, length: int) -> int | None:
        """Of rows of `length` tokens in one call; None where they are longer than every shape."""
        place = bisect_left(self.lengths, length)
        return max(1, self.budget // self.lengths[place]) if place < len(self.lengths) else None

    def fit(self, rows: int, length: int) -> Shape:
        """The smallest shape that holds `rows` of `length`, both within `most_rows`."""
        padded = self.lengths[bisect_left(self.lengths, length)]
        return Shape(next(each for each in self._rows(padded) if each >= rows), padded)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(Shape(rows, length) for length in self.lengths for rows in self._rows(length))

    def _rows(self, length: int) -> Sequence[int]:
        most = max(1, self.budget // length)
        return [*(2**power for power in range((most - 1).bit_length())), most]


@dataclass(frozen=True)
class CudaOptions:
    """`mem_limit` is in bytes, for each engine."""

    grid: Grid = Grid(BUCKET_LENGTHS, GPU_BATCH_TOKENS)
    mem_limit: int = GPU_MEM_LIMIT
