"""Small classifiers of every combination of encoders, and their bundles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.classifier import FittedClassifier, publish_classifier
from export.encoders.base import FittedEncoder
from export.encoders.cnn import FittedCnn
from export.encoders.ngrams import FittedNgrams
from export.training.tokens import learn_tokens
from server.arrays import Floats
from server.bundle import Bundle, Head
from server.encoders.cnn.encoder import CnnSpec
from server.encoders.ngrams.analyzer import Unit, ngrams_of
from server.encoders.ngrams.encoder import NgramsSpec
from tests.conftest import WORDS, random_texts


def fitted_ngrams(unit: Unit, shortest: int, longest: int, classes: int, seed: int = 0) -> FittedNgrams:
    random = np.random.default_rng(seed)
    texts = [*random_texts(3, seed), "日本語 の テキスト", "émigré ﬁlm 10/10"]
    found = dict.fromkeys(ngram for text in texts for ngram in ngrams_of(text, unit, shortest, longest))
    ngrams = list(found)
    return FittedNgrams(
        NgramsSpec(unit=unit, shortest=shortest, longest=longest),
        ngrams,
        random.uniform(1, 5, len(ngrams)).astype(np.float32),
        random.normal(size=(len(ngrams), classes)).astype(np.float32),
    )


def fitted_cnn(
    classes: int, widths: tuple[int, ...] = (2, 3, 5), filters: int = 4, *, learned: bool = False
) -> FittedCnn:
    random = np.random.default_rng(1)

    def normal(*shape: int, scale: float = 1) -> Floats:
        return random.normal(scale=scale, size=shape).astype(np.float32)

    features = filters * len(widths)
    pieces = learn_tokens([*random_texts(30), "日本語のテキスト" * 20], 400) if learned else None
    tokens = pieces.tokens if pieces else tuple(WORDS)
    spec = CnnSpec(
        tokenizer="learned" if learned else "basic_english",
        unknown_id=0,
        pad_id=1,
        widths=widths,
        min_length=max(widths),
        features=features,
    )
    return FittedCnn(
        spec,
        tokens,
        normal(len(tokens), 8, scale=0.3),
        [normal(8, width * filters, scale=0.3) for width in widths],
        [normal(filters) for _ in widths],
        normal(features, classes, scale=0.3),
        pieces.learned if pieces else None,
    )


def fitted(kinds: Sequence[str], classes: int, head: Head = "softmax") -> FittedClassifier:
    """`kinds`: words, characters, cnn, learned (a CNN with a learned tokenizer)."""
    encoders: list[FittedEncoder] = [
        fitted_cnn(classes, learned=kind == "learned")
        if kind in ("cnn", "learned")
        else fitted_ngrams("words", 1, 2, classes)
        if kind == "words"
        else fitted_ngrams("characters", 1, 4, classes)
        for kind in kinds
    ]
    bias = np.linspace(-0.5, 0.5, classes).astype(np.float32)
    labels = tuple(f"label {i}" for i in range(classes))
    return FittedClassifier(labels, encoders, bias, head, words=WORDS[2:])


def published(
    folder: Path, kinds: Sequence[str], classes: int = 2, head: Head = "softmax", *, torchscript: bool = False
) -> Bundle:
    return publish_classifier(fitted(kinds, classes, head), folder, torchscript=torchscript)
