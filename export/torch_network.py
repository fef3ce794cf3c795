"""The network of fitted encoders as TorchScript, as `export/network_graph.py` builds it. Needs torch.

Modules are scripted, not traced: a trace would keep the device of the tracing as a constant.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from export.encoders.base import FittedEncoder
from server.arrays import Floats
from server.bundle import Head


def write_torch_script(encoders: Sequence[FittedEncoder], head_bias: Floats, head: Head, path: Path) -> None:
    """Write the network that `network_graph` describes."""
    torch.jit.script(TorchNetwork(encoders, head_bias, head).eval()).save(path)  # type: ignore[no-untyped-call]


class TorchNetwork(nn.Module):
    """ids int32[rows, length], lengths int32[rows], carry float32[rows or 1, carry size] → (probabilities
    float32[rows, classes], features float32[rows, carry size]).
    """

    head_bias: Tensor

    def __init__(self, encoders: Sequence[FittedEncoder], head_bias: Floats, head: Head) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoder.torch_module() for encoder in encoders)
        self.header = len(encoders) - 1
        self.carry_sizes = [encoder.carry_size(len(head_bias)) for encoder in encoders]
        self.softmax = head == "softmax"
        self.register_buffer("head_bias", torch.from_numpy(head_bias))

    def forward(self, ids: Tensor, lengths: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        ids, lengths = ids.long(), lengths.long()
        carries = torch.split_with_sizes(carry, self.carry_sizes, dim=1)
        logits = self.head_bias
        features: list[Tensor] = []
        begin = torch.full_like(lengths, self.header).unsqueeze(1)
        for i, encoder in enumerate(self.encoders):
            end = begin + ids[:, i : i + 1] if i < self.header else lengths.unsqueeze(1)
            own_logits, own_features = encoder(ids, begin, end, carries[i])
            logits = logits + own_logits
            features.append(own_features)
            begin = end
        probabilities = torch.softmax(logits, dim=1) if self.softmax else torch.sigmoid(logits)
        return probabilities, torch.cat(features, dim=1)
