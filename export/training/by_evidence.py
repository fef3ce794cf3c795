"""`prelabel train`: fits candidates, estimates each by cross-validation, publishes the best. Needs no torch.

read ─▶ folds ─▶ candidates: fit on all folds but one, measure on that one ─▶ the best, calibrated
─▶ fit on all texts ─▶ bundle with a labeling config
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from export.classifier import FittedClassifier, has_torch, publish_classifier
from export.publish import check_name
from export.training import report
from export.training.baseline import NAME, fit_baseline
from export.training.blocks import Block, CnnBlock, NgramBlock, Rows
from export.training.evidence import Estimate, Labelled, cross_validate, figures_of, learning_curve
from export.training.linear_head import Targets, fit_head
from export.training.model_card import model_card
from export.training.options import TrainingOptions
from server.bundle import LABELING_CONFIG, Bundle, Head, read_bundle
from server.encoders.ngrams.analyzer import normalized, words_of
from server.errors import BadInput
from server.label_studio.simple_config import simple_config
from server.offline.labelled import LabelledSource, LabelledTexts, read_labelled
from server.offline.records import TEXT
from server.offline.row_texts import value_of

CNN_PAYS_FROM = 5_000
"""Texts from which on a CNN is worth its minutes: with fewer it is worse than n-grams (docs/training.md). One
fold is then enough, because it has many texts.
"""


@dataclass(frozen=True)
class Candidate:
    """Blocks of features under one head."""

    name: str
    blocks: Sequence[Block]


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
    encoder is a candidate, too. With `encoder` auto, a new CNN is a candidate where there are
    CNN_PAYS_FROM texts and torch. Raises BadInput, BadBundle.
    """
    started = time.monotonic()
    check_name(out, force=force)
    base = read_bundle(start_from) if start_from is not None else None
    with console.status("reading the texts"):
        texts = read_labelled(source, options.group)
        labels = _labels(texts, source)
        tested = None if test is None else _test_texts(replace(source, path=test), labels)
        labelled = _labelled(texts, labels, balance=options.balance)
    with console.status("counting n-grams"):
        candidates = _candidates(texts.texts, base)
    large = (
        len(texts.texts) >= CNN_PAYS_FROM
        and labelled.head == "softmax"
        and encoder == "auto"
        and (labelled.targets > 0).sum(axis=0).min() > 1  # one to learn from and one to measure
        and has_torch()
    )
    folds = [_held_out(source, options)] if large else labelled.folds(options.seed)
    if len(texts.texts) >= CNN_PAYS_FROM:
        del folds[1:]
    found = _measured(candidates, labels, labelled, folds, console.status)
    if large:
        found += _with_cnn(source, texts, labels, labelled, folds[0], candidates[0], options, console, out)
    with console.status(f"measuring the baseline: {NAME}"):
        baseline = cross_validate(NAME, partial(fit_baseline, texts.texts, labelled.targets), labelled, folds)
    best, make = max(found, key=lambda pair: pair[0].better_order)
    with console.status("learning curve"):
        fit = partial(_fit, candidates[0], labelled.targets)
        curve = learning_curve(fit, labelled, folds, found[0][0], options.seed)
    with console.status("fitting on all texts"):
        classifier = make()
    estimates = [estimate for estimate, _ in found]
    metrics: dict[str, Any] = {
        "options": {"seed": options.seed, "start_from": base.version if base else None},
        "texts": {"fitted": len(texts.texts), "left_out": str(texts.left_out) or "none"},
        "chosen": best.name,
        "cross_validation": {each.name: each.figures for each in (*estimates, baseline)},
        "folds": len(folds),
        "learning_curve": curve,
        "seconds": round(time.monotonic() - started, 1),
        **classifier.metrics,
    }
    if tested is not None:
        probabilities = classifier.probabilities(tested.texts)
        metrics["test"] = figures_of(probabilities, _targets(tested, labels), classifier.head)
    report.show(
        console, labels, labelled, [*estimates, baseline], best, baseline, curve, texts.left_out, metrics
    )
    words = list(dict.fromkeys(word for text in texts.texts[:2_000] for word in words_of(normalized(text))))
    several = labelled.head == "sigmoid"
    config = source.label_config or simple_config(value_of(source.text or TEXT), labels, several=several)
    counts = (labelled.targets > 0).sum(axis=0).tolist()
    card = model_card(out.absolute().name, labels, counts, metrics)
    return publish_classifier(
        replace(classifier, metrics=metrics, words=words),
        out,
        files={LABELING_CONFIG: config.encode(), "README.md": card.encode()},
        torchscript=torchscript,
        force=force,
        on_report=console.print,
    )


def fit_without_publishing(texts: LabelledTexts, labels: tuple[str, ...], seed: int) -> FittedClassifier:
    """The calibrated classifier that `train_by_evidence` makes of fewer than CNN_PAYS_FROM texts."""
    labelled = _labelled(texts, labels, balance=False)
    candidates = _candidates(texts.texts, None)
    found = _measured(candidates, labels, labelled, labelled.folds(seed), nullcontext)
    _, make = max(found, key=lambda pair: pair[0].better_order)
    return make()


def _measured(
    candidates: Sequence[Candidate],
    labels: tuple[str, ...],
    labelled: Labelled,
    folds: Sequence[tuple[Rows, Rows]],
    doing: Callable[[str], AbstractContextManager[Any]],
) -> list[tuple[Estimate, Callable[[], FittedClassifier]]]:
    """The estimate of each candidate, and what fits it on all texts. `doing` is entered with the name of each
    step.
    """
    found: list[tuple[Estimate, Callable[[], FittedClassifier]]] = []
    for candidate in candidates:
        with doing(f"measuring {candidate.name}"):
            fit = partial(_fit, candidate, labelled.targets)
            estimate = cross_validate(candidate.name, fit, labelled, folds)
        found.append((estimate, partial(_fit_on_all, candidate, estimate, labels, labelled)))
    return found


def _candidates(texts: Sequence[str], base: Bundle | None) -> list[Candidate]:
    words = NgramBlock(texts, "words", 1, 2, weight=0.3)
    characters = NgramBlock(texts, "characters", 1, 5, weight=0.7)
    found = [Candidate("n-grams", [words, characters])]
    if base is not None:
        cnn = CnnBlock(base, texts)
        name = f"CNN of {base.manifest.name}"
        found += [Candidate(name, [cnn]), Candidate(f"{name} + n-grams", [cnn, words, characters])]
    return found


def _held_out(source: LabelledSource, options: TrainingOptions) -> tuple[Rows, Rows]:
    from export.training.with_cnn import held_out_rows

    return held_out_rows(source, options.seed)


def _with_cnn(
    source: LabelledSource,
    texts: LabelledTexts,
    labels: tuple[str, ...],
    labelled: Labelled,
    split: tuple[Rows, Rows],
    ngrams: Candidate,
    options: TrainingOptions,
    console: Console,
    out: Path,
) -> list[tuple[Estimate, Callable[[], FittedClassifier]]]:
    from export.training.with_cnn import train_cnn_candidates

    fitted, held_out = split
    return train_cnn_candidates(
        source,
        texts.texts,
        labels,
        labelled,
        held_out,
        _fit(ngrams, labelled.targets, fitted)(held_out),
        lambda: fit_head(ngrams.blocks, labelled.targets, np.arange(len(texts.texts))).classifier(
            labels, labelled.head
        ),
        options,
        console,
        out.with_name(f".{out.name}.training"),
    )


def _fit_on_all(
    candidate: Candidate, estimate: Estimate, labels: tuple[str, ...], labelled: Labelled
) -> FittedClassifier:
    head = fit_head(candidate.blocks, labelled.targets, np.arange(len(labelled.targets)))
    calibration = estimate.calibration
    return head.classifier(labels, labelled.head).calibrated(calibration.temperature, calibration.shift)


def _fit(candidate: Candidate, targets: Targets, rows: Any) -> Any:
    return fit_head(candidate.blocks, targets, rows).logits


def _labels(texts: LabelledTexts, source: LabelledSource) -> tuple[str, ...]:
    """The labels in class order. Raises BadInput for fewer than two."""
    labels = tuple(sorted({label for several in texts.labels for label in several}))
    if len(labels) < 2:
        found = f"one label only ({labels[0]})" if labels else "no labelled texts"
        left_out = f" Left out: {texts.left_out}." if texts.left_out.total else ""
        raise BadInput(f"{source.path}: {found}; expected two labels or more.{left_out}")
    return labels


def _labelled(texts: LabelledTexts, labels: tuple[str, ...], *, balance: bool) -> Labelled:
    """Equal texts are a group, since on both sides of a split they would be known answers; so are texts with
    the same value of the column for groups.
    """
    head: Head = "sigmoid" if texts.multi_label else "softmax"
    groups = _connected(texts.texts, texts.groups or texts.texts)
    if len(np.unique(groups)) < 2:
        same = "the same text" if texts.groups is None else "of one group (--group)"
        raise BadInput(f"All labelled texts are {same}; give texts that differ.")
    targets = _targets(texts, labels)
    if (targets > 0).sum(axis=0).max() == 1:
        raise BadInput("Every label has one text only; label more texts.")
    return Labelled(targets, groups, head, balance)


def _connected(texts: Sequence[str], groups: Sequence[str]) -> npt.NDArray[np.intp]:
    """A number for each text, the same for equal texts and for texts of one group."""
    _, by_text = np.unique(np.array(texts, dtype=object), return_inverse=True)
    _, by_group = np.unique(np.array(groups, dtype=object), return_inverse=True)
    nodes = int(by_text.max()) + 1
    size = nodes + int(by_group.max()) + 1
    edges = coo_array((np.ones(len(texts)), (by_text, nodes + by_group)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    numbers: npt.NDArray[np.intp] = component[by_text].astype(np.intp)
    return numbers


def _targets(texts: LabelledTexts, labels: tuple[str, ...]) -> Targets:
    number = {label: i for i, label in enumerate(labels)}
    targets = np.full((len(texts.texts), len(labels)), -1, dtype=np.float32)
    for row, several in enumerate(texts.labels):
        for label in several:
            targets[row, number[label]] = 1
    return targets


def _test_texts(source: LabelledSource, labels: tuple[str, ...]) -> LabelledTexts:
    """Raises BadInput, also for labels that the training texts do not have."""
    tested = read_labelled(source)
    unseen = sorted({label for several in tested.labels for label in several} - set(labels))
    if unseen:
        raise BadInput(f"{source.path}: labels that the training texts do not have: {', '.join(unseen)}.")
    if not tested.texts:
        raise BadInput(f"{source.path}: no labelled texts. Left out: {tested.left_out}.")
    return tested
