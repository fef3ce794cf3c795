"""A newly trained CNN as a candidate, alone and with n-grams under one head."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from export.classifier import publish_classifier
from export.encoders.cnn import FittedCnn
from export.training.candidates import ngram_candidate
from export.training.evidence import figures_of
from export.training.model_card import model_card
from export.training.options import TrainingOptions
from export.training.training_data import read_training_data
from export.training.with_cnn import measure_cnn
from tests.export.test_by_evidence import probabilities, tickets, write

QUIET = Console(file=io.StringIO())

pytestmark = pytest.mark.slow


def test_both_are_measured_on_texts_that_they_have_not_seen_and_can_be_published(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", *tickets(240, ("a", "b")))
    data = read_training_data(source, None, group=None, balance=False)
    split = data.labelled.folds(seed=1)[0]
    _, held_out = split
    ngrams = ngram_candidate(data.texts)
    alone, together = measure_cnn(source, data, split, ngrams, TrainingOptions(epochs=40), QUIET)

    cnn = alone.fit_on_all()
    (encoder,) = cnn.encoders
    assert isinstance(encoder, FittedCnn)
    numbers = {text.split()[-1] for text in data.texts}  # each text ends with its own
    seen = {token for token in encoder.tokens if token in numbers}
    assert seen.isdisjoint(data.texts[row].split()[-1] for row in held_out)
    texts = [data.texts[row] for row in held_out]
    figures = figures_of(cnn.probabilities(texts), data.labelled.targets[held_out], "softmax")
    assert figures["accuracy"] == alone.estimate.figures["accuracy"]
    assert figures["log_loss"] == pytest.approx(alone.estimate.figures["log_loss"], abs=1e-3)

    assert together.estimate.figures["log_loss"] <= alone.estimate.figures["log_loss"] + 1e-6
    assert together.estimate.figures["accuracy"] > 0.75
    both = together.fit_on_all()
    metrics = {
        "options": {"seed": 1},
        "warnings": [],
        "texts": {"fitted": 240, "left_out": "none"},
        "chosen": together.estimate.name,
        "cross_validation": {together.estimate.name: together.estimate.figures},
        "folds": 1,
        "learning_curve": [],
        **both.metrics,
    }
    card = model_card("both", data.labels, data.counts.tolist(), metrics)
    assert "Tokenizer of the CNN: basic_english, by the log loss of a linear model" in card
    bundle = publish_classifier(both, tmp_path / "both", torchscript=False)
    assert [spec.kind for spec in bundle.manifest.encoders] == ["cnn", "ngrams", "ngrams"]
    np.testing.assert_allclose(probabilities(bundle, texts), both.probabilities(texts), atol=1e-5)
