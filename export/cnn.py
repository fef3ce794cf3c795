"""The tutorial's network: embedding → one convolution a filter width → ReLU → max over time → linear.

Kim (2014), "Convolutional Neural Networks for Sentence Classification", in the form that Label Studio's
sentiment tutorial uses, with the same `state_dict` names: `embedding.weight`, `convs.{i}.weight|bias`,
`fc.weight|bias`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from server.encoders.cnn.encoder import CnnSpec


@dataclass(frozen=True)
class NetworkShape:
    """The sizes of one network; `widths` are the filter widths in tokens."""

    vocabulary: int
    dimensions: int
    filters: int
    widths: tuple[int, ...]
    classes: int


class SentimentCNN(nn.Module):
    """ids int64[rows, length] → logits float32[rows, classes]; `length` is at least the widest filter.

    With `lengths` int64[rows], windows that reach past a row's length are ignored, as at inference.
    """

    def __init__(self, shape: NetworkShape, *, pad: int = 1, dropout: float = 0.25) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.dimensions, padding_idx=pad)
        self.convs = nn.ModuleList(
            nn.Conv1d(shape.dimensions, shape.filters, width) for width in shape.widths
        )
        self.fc = nn.Linear(shape.filters * len(shape.widths), shape.classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        embedded = self.dropout(self.embedding(ids)).permute(0, 2, 1)
        pooled = []
        for conv, width in zip(self.convs, self.shape.widths, strict=True):
            windows = torch.relu(conv(embedded))
            if lengths is not None:
                valid = torch.arange(windows.shape[-1], device=lengths.device) <= (lengths - width).unsqueeze(
                    1
                )
                windows = windows * valid.unsqueeze(1)  # after ReLU, zero is neutral for the maximum
            pooled.append(windows.amax(dim=-1))
        logits: Tensor = self.fc(self.dropout(torch.cat(pooled, dim=-1)))
        return logits

    def banks(self) -> Iterator[tuple[nn.Conv1d, Tensor]]:
        """Each filter bank with its bias float32[filters], in the order of `shape.widths`."""
        for conv in self.convs:
            assert isinstance(conv, nn.Conv1d)
            assert conv.bias is not None
            yield conv, conv.bias

    @torch.inference_mode()
    def predict(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities float32[rows, classes], each row alone and in eval mode: the reference of the parity
        check.
        """
        self.eval()
        return torch.cat([torch.softmax(self(torch.tensor([list(row)])), dim=-1) for row in rows])


def taps_of(conv: nn.Conv1d) -> Tensor:
    """Weights [filters, dimensions, width] → taps [dimensions, width × filters]: E @ taps holds, for each
    word, its row for every tap.
    """
    return conv.weight.permute(1, 2, 0).reshape(conv.in_channels, -1)


@dataclass(frozen=True)
class Network:
    """A network and everything that its bundle needs. `tokens` are in the order of their ids, `labels` in the
    order of classes; `learned` is the content of tokenizer.json.
    """

    cnn: SentimentCNN
    tokens: tuple[str, ...]
    unknown_id: int
    pad_id: int
    labels: tuple[str, ...]
    temperature: float = 1.0
    metrics: dict[str, Any] = field(default_factory=dict)
    learned: str | None = None

    @property
    def spec(self) -> CnnSpec:
        """The CNN in the manifest."""
        shape = self.cnn.shape
        return CnnSpec(
            tokenizer="basic_english" if self.learned is None else "learned",
            unknown_id=self.unknown_id,
            pad_id=self.pad_id,
            widths=shape.widths,
            min_length=max(shape.widths),
            features=shape.filters * len(shape.widths),
        )
