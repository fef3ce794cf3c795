"""The exported module: embedding and convolution folded into look-up tables.

A convolution is linear in the embedding row. So tap j of a filter bank is a table `T[v, j] = W[:, :, j] ·
E[v]`, and the convolution at t is `Σ_j T[x[t + j], j]`: a sum of looked-up rows, exact up to rounding, which
needs no windows of embeddings.

The module stores E and W and computes the tables in `forward` from constants. An engine folds them once while
it loads the file, so the file holds V × D numbers where the tables hold V × filters × Σ widths. Weights that
are all float16 numbers are stored as float16 (half the size, no loss), others as float32.
"""

import torch
from torch import Tensor, nn

from export.cnn import SentimentCNN, taps_of
from export.encoders.cnn_module import pooled_windows


def stored(tensor: Tensor) -> Tensor:
    """The tensor in the smallest float type that holds each of its values exactly: float16 or float32."""
    half = tensor.detach().half()
    return half if torch.equal(half.float(), tensor.detach()) else tensor.detach().clone()


@torch.jit.script
def steps_of(ids: Tensor) -> Tensor:
    """0, 1, … int64[length], on the device of `ids`. A trace would keep the device of the tracing as a
    constant; a script reads it at every call.
    """
    return torch.arange(ids.shape[1], device=ids.device)


class FoldedCNN(nn.Module):
    """ids int32[rows, length], lengths int32[rows], carry float32[rows or 1, features] → (probabilities,
    features).

    `length` and every entry of `lengths` are at least the widest filter. Ids at or after a row's length are
    ignored: windows that would reach past it repeat the row's last window, which does not change the maximum.
    `carry` is the running maximum over the chunks of a long text, zeros for the first (after ReLU, zero is
    neutral); `features` float32[rows, features] is the carry of the next chunk.
    """

    def __init__(self, cnn: SentimentCNN, temperature: float = 1.0) -> None:
        super().__init__()
        self.widths = cnn.shape.widths
        self.filters = cnn.shape.filters
        self.register_buffer("embedding", stored(cnn.embedding.weight))
        for i, (conv, bias) in enumerate(cnn.banks()):
            self.register_buffer(f"taps{i}", stored(taps_of(conv)))
            self.register_buffer(f"bias{i}", bias.detach().clone())
        self.register_buffer("head", (cnn.fc.weight.detach() / temperature).T.contiguous())
        self.register_buffer("head_bias", cnn.fc.bias.detach() / temperature)

    def forward(self, ids: Tensor, lengths: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        ids, lengths = ids.long(), lengths.long()
        steps = steps_of(ids)
        pooled = []
        for i, width in enumerate(self.widths):
            taps = (self.get_buffer("embedding").float() @ self.get_buffer(f"taps{i}").float()).reshape(
                -1, self.filters
            )
            last = (lengths - width).unsqueeze(1)
            starts = torch.minimum(steps[: ids.shape[1] - width + 1].unsqueeze(0), last)
            pooled.append(pooled_windows(ids, starts, width, taps, self.get_buffer(f"bias{i}")))
        features = torch.maximum(torch.cat(pooled, dim=1), carry)
        return torch.softmax(
            features @ self.get_buffer("head") + self.get_buffer("head_bias"), dim=1
        ), features
