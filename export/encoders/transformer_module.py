"""A traced transformer as a torch module, for TorchScript. Needs torch."""

from typing import Any

import torch
from torch import Tensor, nn

from server.arrays import Floats


class TransformerModule(nn.Module):
    """The nodes of `FittedEncoder.nodes` in torch. `traced` (ids int64[rows, length], mask int64[rows,
    length]) → float32[rows, features]; `head` float32[features, classes].
    """

    head: Tensor

    def __init__(self, traced: Any, head: Floats, pad: int) -> None:
        super().__init__()
        self.traced = traced
        self.pad = pad
        self.register_buffer("head", torch.from_numpy(head))

    def forward(self, ids: Tensor, begin: Tensor, end: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        longest = int((end - begin).max())
        steps = begin + torch.arange(longest, device=ids.device).unsqueeze(0)
        inside = steps < end
        found = torch.gather(ids, 1, steps.clamp(max=ids.shape[1] - 1))
        own = torch.where(inside, found, torch.full_like(found, self.pad))
        features = self.traced(own, inside.long())
        return features @ self.head, features
