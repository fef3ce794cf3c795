"""The network's features at the price of the windows that win.

A convolution is linear in the embedding row, so the scores of a filter bank are sums of rows looked up in
tables (see `export.folded_cnn`), computed once for the different words of a batch instead of once for every window
of it. And only the window that wins the maximum over time has a gradient, so every window is scored without
one, and the winners alone are summed again with one. The result is `SentimentCNN`'s own, up to rounding, at a
fraction of its time on a CPU.
"""

import torch
from torch import Tensor, nn

from export.cnn import SentimentCNN, taps_of

LEFT_OUT = -1e9
"""The score of a window that may not win: worse than any other, but better than −∞ behind a text's end, so
that some window always wins.
"""


def features(
    cnn: SentimentCNN,
    ids: Tensor,
    lengths: Tensor,
    *,
    vector_dropout: float = 0.0,
    window_dropout: float = 0.0,
) -> Tensor:
    """ids int64[rows, length], lengths int64[rows] → float32[rows, filters × widths], before the dropout in
    front of the last layer.

    `vector_dropout` is the share of each word's vector that is left out, the same wherever the word stands in
    this batch; `window_dropout` the share of windows that may not win, so that filters learn the second-best
    evidence too: Wu & Gu (2015), "Max-Pooling Dropout for Regularization of Convolutional Neural Networks".
    """
    words, places = torch.unique(ids, return_inverse=True)
    vectors = nn.functional.dropout(cnn.embedding(words), vector_dropout)
    pooled = []
    for conv, bias in cnn.banks():
        table, windows = tap_table(vectors, conv), windows_of(places, conv)
        best = _scores(table.detach(), windows, lengths, window_dropout).argmax(dim=1)
        rows = torch.gather(windows, 1, best.unsqueeze(2).expand(-1, -1, windows.shape[2]))
        filters = table.shape[1]
        cells = rows * filters + torch.arange(filters).view(1, filters, 1)
        pooled.append(torch.relu(table.reshape(-1)[cells].sum(dim=2) + bias))
    return torch.cat(pooled, dim=1)


class FrozenFeatures:
    """The same for a network that does not change meanwhile: the tables of the whole vocabulary, made once;
    no gradient.
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
    """[words, dimensions] → [words × width, filters]: row v · width + j is what word v adds at tap j."""
    return (vectors @ taps_of(conv)).view(-1, conv.out_channels)


def windows_of(places: Tensor, conv: nn.Conv1d) -> Tensor:
    """places int64[rows, length] → rows of the tap table int64[rows, length − width + 1, width], one line a
    window.
    """
    width = conv.kernel_size[0]
    return places.unfold(1, width, 1) * width + torch.arange(width)


@torch.no_grad()
def _scores(table: Tensor, windows: Tensor, lengths: Tensor, window_dropout: float = 0.0) -> Tensor:
    """[rows, windows, filters]; a window that reaches past its row's length never wins."""
    rows, count, width = windows.shape
    scores = nn.functional.embedding_bag(windows.reshape(-1, width), table, mode="sum").view(rows, count, -1)
    if window_dropout:
        scores.masked_fill_((torch.rand(rows, count) < window_dropout).unsqueeze(2), LEFT_OUT)
    outside = torch.arange(count) > (lengths - width).unsqueeze(1)
    return scores.masked_fill_(outside.unsqueeze(2), -torch.inf)
