"""`prelabel train`: fits candidates, estimates each by cross-validation, publishes the best. Needs no torch.

read ─▶ folds ─▶ candidates: fit on all folds but one, measure on that one ─▶ the best, calibrated
─▶ fit on all texts ─▶ bundle with a labeling config
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from export.classifier import FittedClassifier, has_torch, publish_classifier
from export.publish import check_name
from export.training import report
from export.training.baseline import NAME, fit_baseline
from export.training.candidates import Measured, best_of, candidates_from, measure_all, ngram_candidate
from export.training.evidence import MANY, Estimate, Fold, cross_validate, figures_of, learning_curve
from export.training.labeling_config import labeling_config
from export.training.model_card import model_card
from export.training.options import TrainingOptions
from export.training.training_data import TrainingData, read_training_data, training_data
from server.bundle import LABELING_CONFIG, Bundle, read_bundle
from server.encoders.ngrams.analyzer import normalized, words_of
from server.offline.labelled import LabelledSource, LabelledTexts


@dataclass(frozen=True)
class Evidence:
    """What was measured: the candidates, the baseline, and n-grams by the number of texts."""

    measured: Sequence[Measured]
    baseline: Estimate
    curve: Sequence[tuple[int, float]]
    folds: int

    @property
    def estimates(self) -> list[Estimate]:
        return [each.estimate for each in self.measured]


def train_by_evidence(
    source: LabelledSource,
    test: Path | None,
    out: Path,
    options: TrainingOptions,
    console: Console,
    *,
    encoder: str = "auto",
    start_from: Path | None = None,
    torchscript: bool = True,
    force: bool = False,
) -> Bundle:
    """Train on `source` and publish the bundle `out`; print the report. `start_from` is a bundle whose
    encoder is a candidate, too. `encoder` is ngrams or auto, with which a new CNN is a candidate where it
    pays and torch is installed. Raises BadInput, BadBundle.
    """
    started = time.monotonic()
    check_name(out, force=force)
    base = read_bundle(start_from) if start_from is not None else None
    with console.status("reading the texts"):
        data = read_training_data(source, test, group=options.group, balance=options.balance)
    evidence = _measure(source, data, base, options, console, with_cnn=encoder == "auto" and has_torch())
    best = best_of(evidence.measured)
    with console.status("fitting on all texts"):
        classifier = best.fit_on_all()
    metrics = {
        "options": {
            "encoder": encoder,
            "start_from": base.version if base else None,
            "group": options.group,
            "balance": options.balance,
            "seed": options.seed,
            "text": source.text,
            "label": source.label,
        },
        **_figures(data, evidence, best.estimate, classifier),
        "seconds": round(time.monotonic() - started, 1),
    }
    report.show(console, data, [*evidence.estimates, evidence.baseline], best.estimate, metrics)
    several = classifier.head == "sigmoid"
    return publish_classifier(
        replace(classifier, metrics=metrics, words=_some_words(data.texts)),
        out,
        files={
            LABELING_CONFIG: labeling_config(source, data.labels, several=several).encode(),
            "README.md": model_card(out.absolute().name, data.labels, data.counts.tolist(), metrics).encode(),
        },
        torchscript=torchscript,
        force=force,
        on_report=console.print,
    )


def fit_without_publishing(texts: LabelledTexts, labels: tuple[str, ...], seed: int) -> FittedClassifier:
    """The calibrated classifier that `train_by_evidence` makes of fewer than MANY texts."""
    data = training_data(texts, labels, balance=False)
    folds = data.labelled.folds(seed)
    return best_of(measure_all([ngram_candidate(texts.texts)], data, folds, nullcontext)).fit_on_all()


def _cnn_pays(data: TrainingData, split: Fold) -> bool:
    """Whether a new CNN is worth its minutes: with fewer texts it is worse than n-grams (docs/training.md).
    It learns one label for each text, and must have texts of all labels to learn from.
    """
    targets = data.labelled.targets
    return (
        len(data.texts) >= MANY
        and data.labelled.head == "softmax"
        and all((targets[rows] > 0).any(axis=0).all() for rows in split)
    )


def _measure(
    source: LabelledSource,
    data: TrainingData,
    base: Bundle | None,
    options: TrainingOptions,
    console: Console,
    *,
    with_cnn: bool,
) -> Evidence:
    """`with_cnn`: a new CNN is a candidate, too, where it pays."""
    with console.status("counting n-grams"):
        ngrams = ngram_candidate(data.texts)
        others = [] if base is None else candidates_from(base, data, ngrams)
    folds = data.labelled.folds(options.seed)
    measured = measure_all([ngrams, *others], data, folds, console.status)
    if with_cnn and len(folds) == 1 and _cnn_pays(data, folds[0]):
        from export.training.with_cnn import measure_cnn

        measured += measure_cnn(source, data, folds[0], ngrams, options, console)
    with console.status(f"measuring the baseline: {NAME}"):
        fit = partial(fit_baseline, data.texts, data.labelled.targets)
        baseline = cross_validate(NAME, fit, data.labelled, folds)
    with console.status("learning curve"):
        fit = partial(ngrams.fit, data.labelled.targets)
        curve = learning_curve(fit, data.labelled, folds, measured[0].estimate, options.seed)
    return Evidence(measured, baseline, curve, len(folds))


def _figures(
    data: TrainingData, evidence: Evidence, best: Estimate, classifier: FittedClassifier
) -> dict[str, Any]:
    """What the report, the manifest and the model card say."""
    figures: dict[str, Any] = {
        "texts": {"fitted": len(data.texts), "left_out": str(data.left_out) or "none"},
        "chosen": best.name,
        "cross_validation": {each.name: each.figures for each in (*evidence.estimates, evidence.baseline)},
        "folds": evidence.folds,
        "learning_curve": evidence.curve,
        "warnings": report.warnings_of(data, best, evidence.baseline),
        **classifier.metrics,
    }
    if data.test is not None:
        probabilities = classifier.quick_probabilities(data.test.texts)
        figures["test"] = figures_of(probabilities, data.test.targets, classifier.head)
    return figures


def _some_words(texts: Sequence[str]) -> list[str]:
    """Words for the texts of the parity check."""
    return list(dict.fromkeys(word for text in texts[:2_000] for word in words_of(normalized(text))))
