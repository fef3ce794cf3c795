"""Blocks of features of the training texts: n-grams, or the features of a CNN or transformer.

A block is fitted on some of the texts, in cross-validation on all folds but one, and gives the features of
others. The head is linear in them, so a fitted block and its part of the head are an encoder of a bundle.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

from export.encoders.base import FittedEncoder, Numbers
from export.encoders.cnn import FittedCnn
from export.encoders.ngrams import FittedNgrams
from export.encoders.transformer import FittedTransformer
from export.vocabulary import is_utf_8
from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.encoders.ngrams.analyzer import Unit, ngrams_of
from server.encoders.ngrams.encoder import NgramsSpec
from server.encoders.ngrams.index import COUNT_BITS, MAX_COUNT, NgramIndex

COUNTED_TEXTS = 5_000
"""Texts in which candidates are counted; of more, evenly spaced ones."""
CANDIDATES = 200_000
"""Most frequent n-grams of all texts, from which a fit takes its own."""
KEPT = 50_000
"""Most n-grams of an encoder: more gain nothing (docs/training.md), and a bundle stays small."""

Rows = npt.NDArray[np.intp]
"""Indices of texts."""

Bar = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""A progress bar for so many tokens; the function that it yields gets the number of those just done."""


class FittedBlock(ABC):
    """A block fitted on some of the texts."""

    @abstractmethod
    def features(self, rows: Rows) -> Any:
        """A matrix [rows, features], dense or sparse, whose rows have a length of about 1."""

    @abstractmethod
    def encoder(self, weights: Floats) -> tuple[FittedEncoder, Floats]:
        """The encoder for a head with these weights float32[features, classes], and what it adds to the
        head's bias, float32[classes].
        """


class Block(ABC):
    """Features of all training texts."""

    @abstractmethod
    def fit(self, rows: Rows) -> FittedBlock: ...


class NgramBlock(Block):
    """Sublinear TF-IDF of the n-grams of some texts, of length √weight."""

    def __init__(
        self, texts: Sequence[str], unit: Unit, shortest: int, longest: int, *, weight: float
    ) -> None:
        self.spec = NgramsSpec(unit=unit, shortest=shortest, longest=longest)
        self.weight = weight
        self.ngrams = frequent_ngrams(texts, self.spec)
        index = NgramIndex(self.ngrams, unit, shortest, longest)
        ids = [index.encode(text) for text in texts]
        flat = np.concatenate(ids)
        ends = np.cumsum([0, *map(len, ids)])
        counts = (flat & MAX_COUNT).astype(np.float32)
        # a row without n-grams is [0]: an entry of zero in column 0
        terms = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0).astype(np.float32)
        columns = np.maximum((flat >> COUNT_BITS) - 1, 0)
        self.terms = csr_array((terms, columns, ends), shape=(len(texts), len(self.ngrams)))
        self.terms.eliminate_zeros()

    def fit(self, rows: Rows) -> "FittedNgramBlock":
        found_in = np.bincount(self.terms[rows].indices, minlength=len(self.ngrams))
        # stable: of equally frequent n-grams those that are more frequent in all texts, then by alphabet
        columns = np.sort(np.argsort(-found_in, kind="stable")[:KEPT])
        columns = columns[found_in[columns] > 0]
        idf = np.log((1 + len(rows)) / (1 + found_in[columns])) + 1
        return FittedNgramBlock(self, columns, idf.astype(np.float32))


@dataclass(frozen=True)
class FittedNgramBlock(FittedBlock):
    """`columns` of the block's n-grams, and their idf, smoothed as in scikit-learn."""

    block: NgramBlock
    columns: npt.NDArray[np.intp]
    idf: Floats

    def features(self, rows: Rows) -> Any:
        weighted = self.block.terms[rows][:, self.columns] @ diags_array(self.idf)
        lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
        scale = np.sqrt(self.block.weight) / np.maximum(lengths, 1e-15)
        return csr_array(diags_array(scale.astype(np.float32)) @ weighted)

    def encoder(self, weights: Floats) -> tuple[FittedNgrams, Floats]:
        head = (weights * np.float32(np.sqrt(self.block.weight))).astype(np.float32)
        ngrams = [self.block.ngrams[column] for column in self.columns]
        return FittedNgrams(self.block.spec, ngrams, self.idf, head), np.zeros(weights.shape[1], np.float32)


def no_bar(tokens: int) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG001 - as Bar
    return nullcontext(lambda _: None)


def frequent_ngrams(texts: Sequence[str], spec: NgramsSpec) -> list[str]:
    """The n-grams that are in most texts, CANDIDATES at most, by frequency, then by alphabet."""
    counts: Counter[str] = Counter()
    for text in texts[:: -(-len(texts) // COUNTED_TEXTS)]:
        counts.update(set(ngrams_of(text, spec.unit, spec.shortest, spec.longest)))
    ranked = sorted(counts, key=lambda ngram: (-counts[ngram], ngram))[:CANDIDATES]
    return [ngram for ngram in ranked if is_utf_8(ngram)]


class DenseBlock(Block):
    """Features of a network, float64[texts, features], and the network as an encoder without a head."""

    values: Numbers
    network: FittedCnn | FittedTransformer

    def fit(self, rows: Rows) -> "FittedDenseBlock":
        values = self.values[rows]
        spread = values.std(axis=0)
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6)
        return FittedDenseBlock(self, values.mean(axis=0), scale / np.sqrt(len(scale)))


@dataclass(frozen=True)
class FittedDenseBlock(FittedBlock):
    """Features that are standardised with the mean and deviation of some texts."""

    block: DenseBlock
    mean: Numbers
    scale: Numbers

    def features(self, rows: Rows) -> Any:
        return (self.block.values[rows] - self.mean) * self.scale

    def encoder(self, weights: Floats) -> tuple[FittedEncoder, Floats]:
        head = self.scale[:, None] * weights
        bias = -(self.mean @ head)
        return self.block.network.with_head(head.astype(np.float32)), bias.astype(np.float32)


class CnnBlock(DenseBlock):
    """The pooled features of a bundle's CNN."""

    def __init__(self, bundle: Bundle, texts: Sequence[str]) -> None:
        """Raises BadBundle."""
        cnn = cnn_of(bundle.encoders)
        network = FittedCnn.of(bundle, np.zeros((cnn.spec.features, 1), dtype=np.float32))
        tokenizer = cnn.tokenizer()
        self.network = network
        self.values = np.stack([network.features(tokenizer.encode(text)) for text in texts])


class TransformerBlock(DenseBlock):
    """The pooled features of a transformer; of a text in windows their mean, which has the mean logits,
    because the head is linear.
    """

    network: FittedTransformer

    def __init__(self, network: FittedTransformer, texts: Sequence[str], bar: Bar = no_bar) -> None:
        windows = network.windows_of(texts)
        self.network = network
        self.truncated = windows.truncated
        """Texts that the network reads in part only."""
        with bar(sum(map(len, windows.rows))) as on_tokens:
            features = network.features(windows.rows, on_tokens)
        self.values = windows.mean_logits(features.astype(np.float64)).astype(np.float64)
