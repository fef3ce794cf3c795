"""The folded network as one Triton kernel: gather, sum and maximum in registers.

    features[row, f] = max(0, bias[f] + max over windows t of Σ_j T[ids[row, t + j], j, f])

A graph of operators writes each of these sums to memory and reads it back, about 30 KB a token of the default
network. The kernel only reads the looked-up rows, 6 KB a token, most of them from the GPU's cache, because
few words make up most of a text. Rows run at their own length: padding costs nothing, and long texts need no
chunks.

A contender of `benchmarks/gpu.py`, not an engine of the server: no measurement on a GPU shows its worth yet.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.encoders.cnn.folded_weights import read_folded_weights
from server.engines.onnx_file import read_tensors
from server.engines.torch_device import TorchDevice

WINDOWS = 16
"""Windows that a program sums at a time, with all filters of each: as many as its registers hold."""

CHUNK = 512
"""Windows of one program. A long text is split over several, which combine their maxima in memory."""


class FusedEngine:
    """One set of tables on one GPU, safe to call from several threads. `cpu` is for tests, in Triton's
    interpreter.
    """

    name = "fused"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str) -> None:
        """Raises CudaUnavailable, BadBundle."""
        self._device = TorchDevice(device)
        self.device = device
        self._widths = cnn_of(bundle.encoders).spec.widths
        cnn, tensors = cnn_of(bundle.encoders), read_tensors(bundle)
        folded = read_folded_weights(tensors, cnn.spec.widths, len(cnn.vocabulary))
        head_bias = tensors["head_bias"].astype(np.float32)
        head = folded.head.reshape(len(folded.head), -1)
        self._tables, self._bias, self._head, self._head_bias = (
            torch.from_numpy(each).to(device) for each in (folded.tables, folded.bias, head, head_bias)
        )
        # the first call compiles the kernel for all shapes
        shortest = cnn_of(bundle.encoders).spec.min_length
        self.run(np.zeros((1, shortest), dtype=np.int32), np.full(1, shortest, dtype=np.int32))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        with torch.inference_mode(), self._device.context():
            try:
                logits = torch.addmm(self._head_bias, self._features(ids, lengths), self._head.T)
                probabilities: Floats = torch.softmax(logits, dim=1).cpu().numpy()
            except torch.OutOfMemoryError:
                raise MemoryError(
                    f"torch has no memory for {ids.shape[0]} rows of {ids.shape[1]} tokens"
                ) from None
            return probabilities

    def close(self) -> None:
        """Nothing to do: torch frees the tables with their last reference."""

    def _features(self, ids: Ids, lengths: Ids) -> torch.Tensor:
        """float32[rows, widths × filters]."""
        rows, length = ids.shape
        taps, filters = self._tables.shape[1:]
        on_device, row_lengths = self._device.upload(ids), self._device.upload(lengths)
        features = torch.zeros((rows, len(self._widths) * filters), dtype=torch.float32, device=self.device)
        first_tap = 0
        for bank, width in enumerate(self._widths):
            _bank[rows, triton.cdiv(length, CHUNK)](
                on_device,
                row_lengths,
                self._tables,
                self._bias[bank],
                features[:, bank * filters :],
                length,
                features.shape[1],
                first_tap,
                WIDTH=width,
                TAPS=taps,
                FILTERS=filters,
                COLUMNS=triton.next_power_of_2(filters),
                WINDOWS=WINDOWS,
                CHUNK=CHUNK,
            )
            first_tap += width
        return features


# otherwise Triton compiles one kernel for lengths divisible by 16 and another for the rest, each when it is
# met
@triton.jit(do_not_specialize=["length", "stride", "first_tap"])  # type: ignore[untyped-decorator]
def _bank(  # type: ignore[no-untyped-def]  # pointers, and constants of the compiled kernel
    ids,
    lengths,
    tables,
    bias,
    features,
    length,
    stride,
    first_tap,
    WIDTH: tl.constexpr,
    TAPS: tl.constexpr,
    FILTERS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WINDOWS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """CHUNK windows of one row, for the filters of one width.

    ids int32[rows, length], lengths int32[rows], tables float32[words, TAPS, FILTERS], bias float32[FILTERS]
    → features float32[rows, FILTERS] with rows `stride` apart: the maximum of the present value and this
    chunk's. They start as zeros, which makes this ReLU.
    """
    row = tl.program_id(0)
    begin = tl.program_id(1) * CHUNK
    end = tl.minimum(tl.load(lengths + row) - WIDTH + 1, begin + CHUNK)
    if begin < end:
        columns = tl.arange(0, COLUMNS)
        is_filter = columns < FILTERS
        words = ids + row.to(tl.int64) * length
        largest = tl.full([COLUMNS], float("-inf"), tl.float32)
        for start in range(begin, end, WINDOWS):
            windows = start + tl.arange(0, WINDOWS)
            valid = windows < end
            sums = tl.zeros([WINDOWS, COLUMNS], tl.float32)
            for tap in tl.static_range(WIDTH):
                word = tl.load(words + windows + tap, mask=valid, other=0).to(tl.int64)
                looked_up = tables + ((word * TAPS + first_tap + tap) * FILTERS)[:, None] + columns[None, :]
                sums += tl.load(looked_up, mask=valid[:, None] & is_filter[None, :], other=0.0)
            largest = tl.maximum(largest, tl.max(tl.where(valid[:, None], sums, float("-inf")), axis=0))
        found = largest + tl.load(bias + columns, mask=is_filter, other=0.0)
        tl.atomic_max(features + row.to(tl.int64) * stride + columns, tl.maximum(found, 0.0), mask=is_filter)
