"""The CNN as a torch module, for TorchScript. Needs torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from server.arrays import Floats


class CnnModule(nn.Module):
    """The nodes of `FittedEncoder.nodes` in torch, from the arrays of a `FittedCnn`."""

    embedding: Tensor
    head: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        embedding: npt.NDArray[Any],
        taps: Sequence[npt.NDArray[Any]],
        biases: Sequence[Floats],
        head: Floats,
    ) -> None:
        super().__init__()
        self.banks = nn.ModuleList(map(FilterBank, widths, taps, biases))
        self.register_buffer("embedding", torch.from_numpy(np.array(embedding)))
        self.register_buffer("head", torch.from_numpy(np.array(head)))

    def forward(self, ids: Tensor, begin: Tensor, end: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embedding.float()
        pooled = []
        for bank in self.banks:
            pooled.append(bank(ids, begin, end, embedding))  # noqa: PERF401 - TorchScript unrolls a loop only
        features = torch.maximum(torch.cat(pooled, dim=1), carry)
        return features @ self.head, features


class FilterBank(nn.Module):
    """The filters of one width."""

    taps: Tensor
    bias: Tensor

    def __init__(self, width: int, taps: npt.NDArray[Any], bias: Floats) -> None:
        super().__init__()
        self.width = width
        self.filters = len(bias)
        self.register_buffer("taps", torch.from_numpy(np.array(taps)))
        self.register_buffer("bias", torch.from_numpy(np.array(bias)))

    def forward(self, ids: Tensor, begin: Tensor, end: Tensor, embedding: Tensor) -> Tensor:
        # an engine freezes the module, which computes the table once (`export/folded_cnn.py`)
        table = (embedding @ self.taps.float()).reshape(-1, self.filters)
        tokens = end - begin
        steps = torch.arange(int(tokens.max()) - self.width + 1, device=ids.device)
        # a window past a row's end repeats the last one, which does not change the maximum
        starts = torch.minimum(steps.unsqueeze(0), tokens - self.width) + begin
        return pooled_windows(ids, starts, self.width, table, self.bias)


def pooled_windows(ids: Tensor, starts: Tensor, width: int, table: Tensor, bias: Tensor) -> Tensor:
    """The maximum over the windows that begin at `starts` int64[rows, windows]: float32[rows, filters].
    `table` float32[words × width, filters] has the taps of a word one after another.
    """
    summed = bias
    for tap in range(width):
        rows = torch.gather(ids, 1, starts + tap) * width + tap
        summed = summed + nn.functional.embedding(rows, table)
    return summed.amax(dim=1)
