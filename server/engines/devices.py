"""The setting `device`, and the fixed batch shapes that a GPU runs.

auto                 CUDA if it works, else the CPU
cpu
cuda, cuda:1         the first GPU, or the GPU with that number
cuda:0,cuda:1        several GPUs, one engine on each
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEVICES = re.compile(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*")

NVIDIA_DRIVER = Path("/dev/nvidiactl")
"""Device file of the NVIDIA driver, in containers too."""

IN_FLIGHT = 3
"""Concurrent calls on one GPU: one computes while another copies, and the reserved interactive thread has a
third.
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
    """The GPUs that the setting names, such as cuda:0; none for cpu. Raises ValueError for others."""
    text = setting.replace(" ", "")
    if not DEVICES.fullmatch(text):
        raise ValueError("must be auto, cpu, cuda, or GPUs by number such as cuda:1 or cuda:0,cuda:1")
    if text in ("auto", "cuda"):
        return ("cuda:0",)
    names = tuple(text.split(",")) if text != "cpu" else ()
    if len(set(names)) < len(names):
        raise ValueError("names a GPU twice")
    return names


def device_number(device: str) -> int:
    """cuda:1 → 1."""
    return int(device.partition(":")[2])


@dataclass(frozen=True)
class Shape:
    rows: int
    length: int


@dataclass(frozen=True)
class Grid:
    """The batch shapes of a GPU: `lengths` in tokens, ascending; rows in powers of two, up to `budget` padded
    tokens a batch.

    There are few enough of them to warm up each before the first request, and enough that fewer than half of
    a batch's rows are padding.
    """

    lengths: tuple[int, ...]
    budget: int

    def up_to(self, length: int | None) -> "Grid":
        """The grid for a network that takes at most `length` tokens."""
        if length is None:
            return self
        return Grid((*(each for each in self.lengths if each < length), length), self.budget)

    def max_rows(self, length: int) -> int | None:
        """Rows of `length` tokens that fit into one call; None if they are longer than every shape."""
        i = bisect_left(self.lengths, length)
        return max(1, self.budget // self.lengths[i]) if i < len(self.lengths) else None

    def fit(self, rows: int, length: int) -> Shape:
        """The smallest shape for `rows` of `length` tokens; there are at most `max_rows` of them."""
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
    """`mem_limit` is in bytes for each engine."""

    grid: Grid = Grid(BUCKET_LENGTHS, GPU_BATCH_TOKENS)
    mem_limit: int = GPU_MEM_LIMIT
