"""The features of the texts in a round: n-grams, and those of the base's network with its own answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.encoders.base import Numbers
from export.encoders.transformer import HEAD, FittedTransformer
from export.learning.answers import Indices
from export.learning.features import FeatureCache, NgramFeatures, ngram_features
from server.bundle import Bundle, Head
from server.engines.onnx_file import read_tensors


@dataclass(frozen=True)
class BaseAnswers:
    """The base's own answers: `logits` float64[texts, classes] and its head for the classes."""

    logits: Numbers
    head: Numbers
    bias: Numbers


@dataclass(frozen=True)
class DenseFeatures:
    """The standardised features of the base's network, float64[texts, features]."""

    values: Numbers
    mean: Numbers
    scale: Numbers


@dataclass(frozen=True)
class TextFeatures:
    ngrams: NgramFeatures | None
    dense: DenseFeatures | None
    base: BaseAnswers | None

    @property
    def matrices(self) -> list[Any]:
        found = [] if self.ngrams is None else [self.ngrams.matrix]
        return found if self.dense is None else [*found, self.dense.values]


def text_features(
    texts: Sequence[str],
    base: Bundle,
    base_names: Sequence[str],
    labels: tuple[str, ...],
    head: Head,
    cache: FeatureCache,
) -> TextFeatures:
    network = cache.network(base)
    if network is None:
        return TextFeatures(ngram_features(texts), None, None)
    values = cache.features(base, texts)
    spread = values.std(axis=0)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6) / np.sqrt(len(spread))
    mean = values.mean(axis=0)
    dense = DenseFeatures((values - mean) * scale, mean, scale)
    own = None
    if len(base.encoders) == 1 and base.manifest.head == head and labels == tuple(base_names):
        tensors = read_tensors(base)
        own_head = tensors[HEAD if isinstance(network, FittedTransformer) else "head"].astype(np.float64)
        bias = tensors["head_bias"].astype(np.float64)
        own = BaseAnswers(values @ own_head + bias, own_head, bias)
    return TextFeatures(ngram_features(texts), dense, own)


def features_at(
    found: TextFeatures, rows: Indices, base_names: Sequence[str], labels: tuple[str, ...]
) -> TextFeatures:
    """Of some of the texts."""
    ngrams, dense, base = found.ngrams, found.dense, found.base
    if ngrams is not None:
        ngrams = replace(ngrams, parts=[replace(part, matrix=part.matrix[rows]) for part in ngrams.parts])
    if dense is not None:
        dense = replace(dense, values=dense.values[rows])
    if base is not None:
        base = replace(base, logits=base.logits[rows]) if labels == tuple(base_names) else None
    return TextFeatures(ngrams, dense, base)
