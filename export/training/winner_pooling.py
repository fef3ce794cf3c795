"""Fast features for training: gradients only for the windows that win the maximum over time.

A convolution is linear in the embedding row, so the scores of a filter bank are sums of rows looked up in
tables (see `export/folded_cnn.py`), computed once for the different words of a batch instead of once for each
window. Only the window that wins the maximum has a gradient: all windows are scored without gradients, then
the winners are summed again with gradients. The result equals `SentimentCNN`'s up to rounding, in a fraction
of its time on a CPU.
"""

import torch
from torch import Tensor, nn

from export.cnn import SentimentCNN, taps_of

LEFT_OUT = -1e9
"""The score of a window that dropout excludes: lower than any other, but higher than the −∞ of a window past
the text's end, so that some window always wins.
"""


def features(
    cnn: SentimentCNN,
    ids: Tensor,
    lengths: Tensor,
    *,
    vector_dropout: float = 0.0,
    window_dropout: float = 0.0,
) -> Tensor:
    """ids int64[rows, length], lengths int64[rows] → features float32[rows, filters × widths], before the
    dropout of the last layer.

    `vector_dropout` drops a share of each word's vector, the same throughout the batch. `window_dropout`
    excludes a share of the windows, so that filters also learn the second-best evidence: Wu & Gu (2015),
    "Max-Pooling Dropout for Regularization of Convolutional Neural Networks".
    """
    words, indices = torch.unique(ids, return_inverse=True)
    vectors = nn.functional.dropout(cnn.embedding(words), vector_dropout)
    pooled = []
    for conv, bias in cnn.banks():
        table, windows = tap_table(vectors, conv), windows_of(indices, conv)
        best = _scores(table.detach(), windows, lengths, window_dropout).argmax(dim=1)
        rows = torch.gather(windows, 1, best.unsqueeze(2).expand(-1, -1, windows.shape[2]))
        filters = table.shape[1]
        cells = rows * filters + torch.arange(filters).view(1, filters, 1)
        pooled.append(torch.relu(table.reshape(-1)[cells].sum(dim=2) + bias))
    return torch.cat(pooled, dim=1)


class FrozenFeatures:
    """`features` of a network with constant weights: computes the tables of the whole vocabulary once,
    without gradients.
    """

    @torch.no_grad()
    def __init__(self, cnn: SentimentCNN) -> None:
        self._banks = [(conv, bias, tap_table(cnn.embedding.weight, conv)) for conv, bias in cnn.banks()]

    @torch.no_grad()
    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        pooled = [
            torch.relu(_scores(table, windows_of(ids, conv), lengths).amax(dim=1) + bias)
            for conv, bias, table in self._banks
        ]
        return torch.cat(pooled, dim=1)


def tap_table(vectors: Tensor, conv: nn.Conv1d) -> Tensor:
    """vectors [words, dimensions] → [words × width, filters]: row v · width + j is the term of word v at tap
    j.
    """
    return (vectors @ taps_of(conv)).view(-1, conv.out_channels)


def windows_of(words: Tensor, conv: nn.Conv1d) -> Tensor:
    """words int64[rows, length] → rows of the tap table int64[rows, windows, width]."""
    width = conv.kernel_size[0]
    return words.unfold(1, width, 1) * width + torch.arange(width)


@torch.no_grad()
def _scores(table: Tensor, windows: Tensor, lengths: Tensor, window_dropout: float = 0.0) -> Tensor:
    """Scores [rows, windows, filters]; −∞ for a window that reaches past its row's length."""
    rows, count, width = windows.shape
    scores = nn.functional.embedding_bag(windows.reshape(-1, width), table, mode="sum").view(rows, count, -1)
    if window_dropout:
        scores.masked_fill_((torch.rand(rows, count) < window_dropout).unsqueeze(2), LEFT_OUT)
    outside = torch.arange(count) > (lengths - width).unsqueeze(1)
    return scores.masked_fill_(outside.unsqueeze(2), -torch.inf)
