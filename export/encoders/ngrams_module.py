"""N-grams as a torch module, for TorchScript. Needs torch."""

import torch
from torch import Tensor, nn

from server.arrays import Floats
from server.encoders.ngrams.index import COUNT_BITS


class NgramsModule(nn.Module):
    """The nodes of `FittedEncoder.nodes` in torch. `idf` float32[n-grams + 1], `head` float32[n-grams + 1,
    classes]; row 0 is that of no n-gram.
    """

    idf: Tensor
    head: Tensor

    def __init__(self, idf: Floats, head: Floats) -> None:
        super().__init__()
        self.per_ngram = 2**COUNT_BITS
        self.classes = head.shape[1]
        self.register_buffer("idf", torch.from_numpy(idf))
        self.register_buffer("head", torch.from_numpy(head))

    def forward(self, ids: Tensor, begin: Tensor, end: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        steps = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        tokens = ids * ((steps >= begin) & (steps < end))
        ngrams = tokens // self.per_ngram
        counts = (tokens % self.per_ngram).float()
        weights = (1.0 + torch.log(counts.clamp(min=1.0))) * self.idf[ngrams]
        sums = (weights.unsqueeze(1) @ self.head[ngrams]).squeeze(1)
        squares = (weights * weights).sum(dim=1, keepdim=True)
        features = torch.cat([sums, squares], dim=1) + carry
        lengths = features[:, self.classes :].clamp(min=1e-30).sqrt()
        return features[:, : self.classes] / lengths, features
