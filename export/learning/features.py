"""Features of the texts of a project: n-grams that are counted in arrays, and those of the base's network,
which are kept between rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array, hstack

from export.encoders.base import FittedEncoder, Numbers
from export.encoders.cnn import FittedCnn
from export.encoders.ngrams import FittedNgrams
from export.encoders.transformer import FittedTransformer
from export.learning.project_model import probabilities
from export.training.blocks import TransformerBlock
from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.cnn.encoder import CnnEncoder
from server.encoders.ngrams.analyzer import Unit, normalized, words_of
from server.encoders.ngrams.encoder import NgramsSpec
from server.encoders.ngrams.index import COUNT_BITS, MAX_COUNT, NgramIndex
from server.encoders.transformer.encoder import transformer_of

COUNTED_CHARACTERS = 1_000_000
"""Characters of the texts in which n-grams are counted: of longer texts together, evenly spaced ones."""

KEPT = {"words": 20_000, "characters": 40_000}
"""Most n-grams of each kind."""

ONCE = 50
"""Up to this number of texts, n-grams that occur once are kept, too."""

ALPHABET_BITS = 12
"""Characters in n-grams are the 4,095 most frequent ones, so that five fit into 64 bits."""


Keys = npt.NDArray[np.int64]


class FeatureCache:
    """Features and answers of bundles for texts, kept between rounds. `keep` limits them to some texts."""

    def __init__(self) -> None:
        self._features: dict[tuple[str, str], Floats] = {}
        self._answers: dict[tuple[str, str], Floats] = {}
        self._networks: dict[str, FittedCnn | FittedTransformer | None] = {}

    def network(self, base: Bundle) -> FittedCnn | FittedTransformer | None:
        """The transformer of a bundle, or else its CNN, without a head; None if it has neither. Raises
        BadBundle.
        """
        if base.version not in self._networks:
            self._networks[base.version] = _network_of(base)
        return self._networks[base.version]

    def features(self, base: Bundle, texts: Sequence[str]) -> Numbers:
        """float64[texts, features] of the base's network. Raises BadBundle if it has none."""
        missing = [text for text in dict.fromkeys(texts) if (base.version, text) not in self._features]
        network = self.network(base)
        if missing and isinstance(network, FittedTransformer):
            self._put(self._features, base, missing, TransformerBlock(network, missing).values)
        elif missing and network is not None:
            size = network.spec.features
            same = network.with_head(np.eye(size, dtype=np.float32))
            self._put(self._features, base, missing, same.quick_logits(missing, size))
        return np.stack([self._features[base.version, text] for text in texts]).astype(np.float64)

    def answers(self, bundle: Bundle, texts: Sequence[str]) -> Numbers:
        """float64[texts, classes], the probabilities that the bundle gives."""
        missing = [text for text in dict.fromkeys(texts) if (bundle.version, text) not in self._answers]
        if missing:
            self._put(self._answers, bundle, missing, probabilities(bundle, missing))
        rows = [self._answers[bundle.version, text] for text in texts]
        return np.stack(rows).astype(np.float64) if rows else np.zeros((0, len(bundle.labels)))

    def keep(self, versions: Sequence[str], texts: Sequence[str]) -> None:
        """Drop what is of other versions or other texts."""
        kept, wanted = set(versions), set(texts)
        for entries in (self._features, self._answers):
            for key in [key for key in entries if key[0] not in kept or key[1] not in wanted]:
                del entries[key]
        self._networks = {version: each for version, each in self._networks.items() if version in kept}

    @staticmethod
    def _put(
        entries: dict[tuple[str, str], Floats], bundle: Bundle, texts: Sequence[str], values: Numbers
    ) -> None:
        for text, row in zip(texts, values.astype(np.float32), strict=True):
            entries[bundle.version, text] = row


def _network_of(base: Bundle) -> FittedCnn | FittedTransformer | None:
    if (transformer := transformer_of(base.encoders)) is not None:
        return FittedTransformer.of(base, np.zeros((transformer.spec.features, 1), dtype=np.float32))
    for encoder in base.encoders:
        if isinstance(encoder, CnnEncoder):
            return FittedCnn.of(base, np.zeros((encoder.spec.features, 1), dtype=np.float32))
    return None


@dataclass(frozen=True)
class NgramPart:
    """One kind of n-grams: its rows, csr float32[texts, n-grams] of length √weight, and their idf."""

    spec: NgramsSpec
    ngrams: Sequence[str]
    idf: Floats
    weight: float
    matrix: Any

    def encoder(self, coefficients: Numbers) -> FittedNgrams:
        """For coefficients [n-grams, classes]."""
        head = (coefficients * np.sqrt(self.weight)).astype(np.float32)
        return FittedNgrams(self.spec, self.ngrams, self.idf, head)


@dataclass(frozen=True)
class NgramFeatures:
    """N-grams of words and of characters under one head."""

    parts: Sequence[NgramPart]

    @property
    def matrix(self) -> Any:
        """csr float32[texts, n-grams of all parts]; rows have length 1 or less."""
        return csr_array(hstack([part.matrix for part in self.parts], format="csr"))

    def encoders(self, coefficients: Numbers) -> list[FittedEncoder]:
        """For coefficients [n-grams of all parts, classes]."""
        ends = np.cumsum([len(part.ngrams) for part in self.parts])[:-1]
        split = np.split(coefficients, ends)
        return [part.encoder(rows) for part, rows in zip(self.parts, split, strict=True)]


def ngram_features(texts: Sequence[str]) -> NgramFeatures | None:
    """Sublinear TF-IDF with n-grams and idf of these texts; None if they have no n-grams."""
    kinds: list[tuple[Unit, int, int, float]] = [("words", 1, 2, 0.3), ("characters", 1, 5, 0.7)]
    parts = [
        _part(texts, NgramsSpec(unit=unit, shortest=a, longest=b), weight) for unit, a, b, weight in kinds
    ]
    found = [part for part in parts if part is not None]
    return NgramFeatures(found) if found else None


def _part(texts: Sequence[str], spec: NgramsSpec, weight: float) -> NgramPart | None:
    ngrams = counted_ngrams(texts, spec)
    if not ngrams:
        return None
    ids = NgramIndex(ngrams, spec.unit, spec.shortest, spec.longest).encode_all(texts)
    flat = np.concatenate(ids)
    counts, columns = flat & MAX_COUNT, np.maximum((flat >> COUNT_BITS) - 1, 0)
    terms = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0).astype(np.float32)
    matrix = csr_array((terms, columns, np.cumsum([0, *map(len, ids)])), shape=(len(texts), len(ngrams)))
    matrix.eliminate_zeros()
    found_in = np.bincount(matrix.indices, minlength=len(ngrams))
    idf = (np.log((1 + len(texts)) / (1 + found_in)) + 1).astype(np.float32)
    matrix.data *= idf[matrix.indices]
    lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    scale = (np.sqrt(weight) / np.maximum(lengths, 1e-15)).astype(np.float32)
    return NgramPart(spec, ngrams, idf, weight, csr_array(diags_array(scale) @ matrix))


def counted_ngrams(texts: Sequence[str], spec: NgramsSpec) -> list[str]:
    """The most frequent n-grams, KEPT at most, by number of occurrences; they are those of `ngrams_of`."""
    step = -(-sum(map(len, texts)) // COUNTED_CHARACTERS) or 1
    chosen = [normalized(text) for text in texts[::step]]
    least = 1 if len(chosen) <= ONCE else 2
    count = _counted_words if spec.unit == "words" else _counted_characters
    ngrams, counts = count(chosen, spec.shortest, spec.longest, least)
    order = np.argsort(-counts, kind="stable")[: KEPT[spec.unit]]
    return [ngrams[index] for index in order]


def _counted_words(
    texts: Sequence[str], shortest: int, longest: int, least: int
) -> tuple[list[str], npt.NDArray[np.intp]]:
    """N-grams of at most two words that occur `least` times, and how often they do."""
    words: list[str] = []
    rows = [words_of(text) for text in texts]
    number = {word: i + 1 for i, word in enumerate(dict.fromkeys(word for row in rows for word in row))}
    words = list(number)
    # 0 between texts
    units = np.array([each for row in rows for each in (*(number[word] for word in row), 0)], dtype=np.int64)
    ngrams, counts = list[str](), []
    for size in range(shortest, longest + 1):
        keys: Keys = np.zeros(max(len(units) - size + 1, 0), dtype=np.int64)
        valid: npt.NDArray[np.bool_] = np.ones(len(keys), dtype=bool)
        for at in range(size):
            part = units[at : at + len(keys)]
            keys, valid = keys * (len(words) + 1) + part, valid & (part > 0)
        found, times = np.unique(keys[valid], return_counts=True)
        found, times = found[times >= least], times[times >= least]
        indices_of = [
            (found // (len(words) + 1) ** (size - 1 - at)) % (len(words) + 1) - 1 for at in range(size)
        ]
        ngrams += [" ".join(words[i] for i in indices) for indices in zip(*indices_of, strict=True)]
        counts.append(times)
    valid_ngrams = [i for i, ngram in enumerate(ngrams) if _is_text(ngram)]
    return [ngrams[i] for i in valid_ngrams], np.concatenate(counts)[valid_ngrams]


def _counted_characters(
    texts: Sequence[str], shortest: int, longest: int, least: int
) -> tuple[list[str], npt.NDArray[np.intp]]:
    """The same for n-grams of at most five characters, with spaces at their ends only."""
    joined = " ".join(" ".join(text.split()) for text in texts)
    points = np.frombuffer(f" {joined} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    times_of = np.bincount(points, minlength=0x110000)
    times_of[0xD800:0xE000] = 0  # files cannot hold lone surrogates
    alphabet = np.argsort(-times_of, kind="stable")[: 2**ALPHABET_BITS - 1]
    alphabet = alphabet[times_of[alphabet] > 0]
    number = np.zeros(0x110000, dtype=np.int64)
    number[alphabet] = np.arange(1, len(alphabet) + 1)
    units, gap = number[points], points == ord(" ")
    ngrams, counts = list[str](), []
    for size in range(shortest, longest + 1):
        keys: Keys = np.zeros(max(len(units) - size + 1, 0), dtype=np.int64)
        valid: npt.NDArray[np.bool_] = np.ones(len(keys), dtype=bool)
        for at in range(size):
            part = slice(at, at + len(keys))
            keys = keys << ALPHABET_BITS | units[part]
            valid &= units[part] > 0
            if 0 < at < size - 1 or size == 1:
                valid &= ~gap[part]
        if size == 2:  # two parts are never next to each other, but the gap alone is no n-gram
            valid &= ~(gap[:-1] & gap[1:])
        found, times = np.unique(keys[valid], return_counts=True)
        found, times = found[times >= least], times[times >= least]
        shifts = [(size - 1 - at) * ALPHABET_BITS for at in range(size)]
        codes = np.stack([alphabet[(found >> shift & 2**ALPHABET_BITS - 1) - 1] for shift in shifts], axis=1)
        text = codes.astype(np.uint32).tobytes().decode("utf-32-le")
        ngrams += [text[begin : begin + size] for begin in range(0, len(text), size)]
        counts.append(times)
    return ngrams, np.concatenate(counts)


def _is_text(ngram: str) -> bool:
    return ngram.isascii() or not any("\ud800" <= character <= "\udfff" for character in ngram)
