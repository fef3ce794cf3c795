"""The folded sum as one kernel for the GPU, compiled by Triton: gather, sum and maximum in registers, nothing
in between in memory.

    features[row, f] = max(0, bias[f] + max over windows t of Σ_j T[ids[row, t + j], j, f])

A graph of operators writes and reads each of these sums, about 30 KB a token of the default network; the
kernel reads the looked-up rows alone, 6 KB a token, and most of those from the GPU's cache, for a few words
make most of a text. Rows go at their own length: padding costs nothing, and a long text needs no pieces.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.folded_weights import read_folded_weights
from server.engines.torch_device import TorchDevice

WINDOWS = 16
"""Windows that a program sums at a time, all filters of each: what its registers hold."""

CHUNK = 512
"""Windows of one program. A long text goes to several, and their maxima meet in memory."""


class FusedEngine:
    """One set of tables on one GPU, safe to call from several threads. On `cpu` it runs in Triton's
    interpreter only, for tests.
    """

    name = "fused"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str) -> None:
        """Raises NoCuda, BadBundle."""
        self._on = TorchDevice(device)
        self.device = device
        self._widths = bundle.widths
        folded = read_folded_weights(bundle)
        self._tables, self._bias, self._head_bias = (
            self._on.keep(each) for each in (folded.tables, folded.bias, folded.head_bias)
        )
        self._head = self._on.keep(folded.head.reshape(len(folded.head), -1))
        # compiled at the first call of all, whatever its shape
        shortest = bundle.manifest.min_length
        self.run(np.zeros((1, shortest), dtype=np.int32), np.full(1, shortest, dtype=np.int32))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        with torch.inference_mode(), self._on.in_order():
            try:
                logits = torch.addmm(self._head_bias, self._features(ids, lengths), self._head.T)
                answer: Floats = torch.softmax(logits, dim=1).cpu().numpy()
            except torch.OutOfMemoryError:
                raise MemoryError(
                    f"torch has no memory for {ids.shape[0]} rows of {ids.shape[1]} tokens"
                ) from None
            return answer

    def close(self) -> None:
        """torch frees the tables with their last reference; there is nothing to end."""

    def _features(self, ids: Ids, lengths: Ids) -> torch.Tensor:
        """float32[rows, widths × filters]."""
        rows, length = ids.shape
        taps, filters = self._tables.shape[1:]
        there, of = self._on.put(ids), self._on.put(lengths)
        features = torch.zeros((rows, len(self._widths) * filters), dtype=torch.float32, device=self.device)
        first_tap = 0
        for bank, width in enumerate(self._widths):
            _bank[rows, triton.cdiv(length, CHUNK)](
                there, of, self._tables, self._bias[bank], features[:, bank * filters :], length, features.shape[1], first_tap,
                WIDTH=width, TAPS=taps, FILTERS=filters, LANES=triton.next_power_of_2(filters), WINDOWS=WINDOWS, CHUNK=CHUNK,
            )  # fmt: skip
            first_tap += width
        return features


# else a kernel is compiled anew at the first length that 16 divides, and at the first that it does not
@triton.jit(do_not_specialize=["length", "stride", "first_tap"])  # type: ignore[untyped-decorator]
def _bank(  # type: ignore[no-untyped-def]  # pointers, and numbers known when it is compiled
    ids, lengths, tables, bias, features, length, stride, first_tap,
    WIDTH: tl.constexpr, TAPS: tl.constexpr, FILTERS: tl.constexpr, LANES: tl.constexpr, WINDOWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One row's windows, CHUNK of them, for the filters of one width.

    ids int32[rows, length], lengths int32[rows], tables float32[words, TAPS, FILTERS], bias float32[FILTERS]
    → features float32[rows, FILTERS], `stride` apart: the larger of what is there and this. They begin as
    zeros, which is ReLU.
    """
    row = tl.program_id(0)
    begin = tl.program_id(1) * CHUNK
    end = tl.minimum(tl.load(lengths + row) - WIDTH + 1, begin + CHUNK)
    if begin < end:
        lanes = tl.arange(0, LANES)
        is_filter = lanes < FILTERS
        words = ids + row.to(tl.int64) * length
        largest = tl.full([LANES], float("-inf"), tl.float32)
        for start in range(begin, end, WINDOWS):
            windows = start + tl.arange(0, WINDOWS)
            inside = windows < end
            sums = tl.zeros([WINDOWS, LANES], tl.float32)
            for tap in tl.static_range(WIDTH):
                word = tl.load(words + windows + tap, mask=inside, other=0).to(tl.int64)
                looked_up = tables + ((word * TAPS + first_tap + tap) * FILTERS)[:, None] + lanes[None, :]
                sums += tl.load(looked_up, mask=inside[:, None] & is_filter[None, :], other=0.0)
            largest = tl.maximum(largest, tl.max(tl.where(inside[:, None], sums, float("-inf")), axis=0))
        found = largest + tl.load(bias + lanes, mask=is_filter, other=0.0)
        tl.atomic_max(features + row.to(tl.int64) * stride + lanes, tl.maximum(found, 0.0), mask=is_filter)
