"""The setting `device`, and the fixed batch shapes that a GPU runs.

auto                 CUDA if it works, else the CPU
cpu
cuda, cuda:1         the first GPU, or the GPU with that number
cuda:0,cuda:1        several GPUs, one engine on each
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    tokens a batch, and up to `call_bytes` where `row_bytes` says what a row of each length takes.

    There are few enough of them to warm up each before the first request, and enough that fewer than half of
    a batch's rows are padding.
    """

    lengths: tuple[int, ...]
    budget: int
    row_bytes: tuple[int, ...] = ()
    call_bytes: int = 0

    def up_to(self, length: int | None) -> "Grid":
        """The grid for a network that takes at most `length` tokens."""
        if length is None:
            return self
        return Grid((*(each for each in self.lengths if each < length), length), self.budget)

    def within(self, row_bytes: Callable[[int], int], call_bytes: int) -> "Grid":
        """The grid whose calls of several rows take at most `call_bytes`, if a row of a length takes
        `row_bytes`; 0 stands for no such bound.
        """
        rows = tuple(map(row_bytes, self.lengths))
        return replace(self, row_bytes=rows, call_bytes=call_bytes) if all(rows) else self

    def max_rows(self, length: int) -> int | None:
        """Rows of `length` tokens that fit into one call; None if they are longer than every shape."""
        i = bisect_left(self.lengths, length)
        return self._most(i) if i < len(self.lengths) else None

    def fit(self, rows: int, length: int) -> Shape:
        """The smallest shape for `rows` of `length` tokens; there are at most `max_rows` of them."""
        i = bisect_left(self.lengths, length)
        return Shape(next(each for each in self._rows(i) if each >= rows), self.lengths[i])

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(Shape(rows, length) for i, length in enumerate(self.lengths) for rows in self._rows(i))

    def largest_first(self) -> list[Shape]:
        """The shapes by the memory of a call, descending."""
        of_row = dict(zip(self.lengths, self.row_bytes or self.lengths, strict=True))
        return sorted(self.shapes, key=lambda shape: shape.rows * of_row[shape.length], reverse=True)

    def _rows(self, i: int) -> Sequence[int]:
        most = self._most(i)
        return [*(2**power for power in range((most - 1).bit_length())), most]

    def _most(self, i: int) -> int:
        """Rows of a call of the length with this index."""
        most = self.budget // self.lengths[i]
        return max(1, min(most, self.call_bytes // self.row_bytes[i]) if self.row_bytes else most)


@dataclass(frozen=True)
class CudaOptions:
    """`mem_limit` is in bytes for each engine."""

    grid: Grid = Grid(BUCKET_LENGTHS, GPU_BATCH_TOKENS)
    mem_limit: int = GPU_MEM_LIMIT
