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
from export.encoders.transformer import FittedTransformer
from export.publish import check_name
from export.publish_transformer import check_libraries
from export.training import report
from export.training.baseline import NAME, fit_baseline
from export.training.blocks import TransformerBlock
from export.training.candidates import (
    Measured,
    best_of,
    candidates_from,
    measure_all,
    ngram_candidate,
    with_and_without_ngrams,
)
from export.training.evidence import MANY, Estimate, Fold, cross_validate, figures_of, learning_curve
from export.training.labeling_config import labeling_config
from export.training.model_card import model_card
from export.training.options import TrainingOptions
from export.training.training_data import TrainingData, read_training_data, training_data
from export.training.with_sentence_encoder import (
    SENTENCE_ENCODER,
    SentenceEncoder,
    load_sentence_encoder,
    reading,
    transformer_metrics,
)
from server.bundle import LABELING_CONFIG, Bundle, read_bundle
from server.encoders.ngrams.analyzer import normalized, words_of
from server.offline.labelled import LabelledSource, LabelledTexts


@dataclass(frozen=True)
class Evidence:
    """What was measured: the candidates, the baseline, and n-grams by the number of texts."""

    measured: Sequence[Measured]
    baseline: Estimate
    curve: Sequence[tuple[int, float]]
    folds: Sequence[Fold]

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
    pays and torch is installed. Raises BadInput, BadBundle, BadSetting.
    """
    started = time.monotonic()
    check_name(out, force=force)
    if options.sentence_encoder is not None:
        check_libraries("--sentence-encoder")
    base = read_bundle(start_from) if start_from is not None else None
    with console.status("reading the texts"):
        data = read_training_data(source, test, group=options.group, balance=options.balance)
    sentence = None
    if options.sentence_encoder is not None:
        sentence = load_sentence_encoder(options, data, console, torchscript=torchscript)
    with_cnn = encoder == "auto" and has_torch()
    evidence = _measure(source, data, base, sentence, options, console, with_cnn=with_cnn)
    best = best_of(evidence.measured)
    with console.status("fitting on all texts"):
        classifier = best.fit_on_all()
    metrics = {
        "options": {
            "encoder": encoder,
            "start_from": base.version if base else None,
            **_sentence_encoder_options(options),
            "group": options.group,
            "balance": options.balance,
            "seed": options.seed,
            "text": source.text,
            "label": source.label,
        },
        **_figures(data, evidence, best.estimate, classifier),
        **transformer_metrics(best),
        **(sentence.cost(best, evidence.folds) if sentence else {}),
        "seconds": round(time.monotonic() - started, 1),
    }
    report.show(console, data, [*evidence.estimates, evidence.baseline], best.estimate, metrics)
    several = classifier.head == "sigmoid"
    with sentence.publishing() if sentence else nullcontext():
        return publish_classifier(
            replace(classifier, metrics=metrics, words=_some_words(data.texts)),
            out,
            files={
                LABELING_CONFIG: labeling_config(source, data.labels, several=several).encode(),
                "README.md": model_card(
                    out.absolute().name, data.labels, data.counts.tolist(), metrics
                ).encode(),
            },
            torchscript=torchscript,
            force=force,
            on_report=console.print,
        )


def fit_without_publishing(
    texts: LabelledTexts, labels: tuple[str, ...], seed: int, network: FittedTransformer | None = None
) -> FittedClassifier:
    """The calibrated classifier that `train_by_evidence` makes of fewer than MANY texts, with the sentence
    encoder `network` if given.
    """
    data = training_data(texts, labels, balance=False)
    ngrams = ngram_candidate(texts.texts)
    candidates = [ngrams]
    if network is not None:
        candidates += with_and_without_ngrams(
            SENTENCE_ENCODER, TransformerBlock(network, texts.texts), ngrams
        )
    return best_of(measure_all(candidates, data, data.labelled.folds(seed), nullcontext)).fit_on_all()


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
    sentence: SentenceEncoder | None,
    options: TrainingOptions,
    console: Console,
    *,
    with_cnn: bool,
) -> Evidence:
    """`with_cnn`: a new CNN is a candidate, too, where it pays."""
    with console.status("counting n-grams"):
        ngrams = ngram_candidate(data.texts)
    others = [] if base is None else candidates_from(base, data, ngrams, reading(console))
    if sentence is not None:
        others += sentence.candidates(ngrams)
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
    return Evidence(measured, baseline, curve, folds)


def _figures(
    data: TrainingData, evidence: Evidence, best: Estimate, classifier: FittedClassifier
) -> dict[str, Any]:
    """What the report, the manifest and the model card say."""
    figures: dict[str, Any] = {
        "texts": {"fitted": len(data.texts), "left_out": str(data.left_out) or "none"},
        "chosen": best.name,
        "cross_validation": {each.name: each.figures for each in (*evidence.estimates, evidence.baseline)},
        "folds": len(evidence.folds),
        "learning_curve": evidence.curve,
        "warnings": report.warnings_of(data, best, evidence.baseline),
        **classifier.metrics,
    }
    if data.test is not None:
        probabilities = classifier.quick_probabilities(data.test.texts)
        figures["test"] = figures_of(probabilities, data.test.targets, classifier.head)
    return figures


def _sentence_encoder_options(options: TrainingOptions) -> dict[str, Any]:
    if options.sentence_encoder is None:
        return {}
    return {
        "sentence_encoder": options.sentence_encoder.absolute().name,
        "long_texts": options.long_texts,
        "max_length": options.max_length,
        "quantize": options.quantize,
    }


def _some_words(texts: Sequence[str]) -> list[str]:
    """Words for the texts of the parity check."""
    return list(dict.fromkeys(word for text in texts[:2_000] for word in words_of(normalized(text))))
