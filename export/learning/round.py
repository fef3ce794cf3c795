"""One round of learning: candidates fitted on the annotations of a project, and a verdict on the best.

annotations ─▶ annotators set aside ─▶ folds ─▶ candidates, cross-validated ─▶ the best, calibrated
─▶ gate: better than what is served, on annotations that neither has seen ─▶ fitted on all
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.learning.annotators import Rows, constant, set_aside
from export.learning.feature_cache import FeatureCache
from export.learning.gate import Rights, Verdict, gain_of, judge, of_annotators
from export.learning.project_model import probabilities
from export.learning.stopping import auto_accept
from export.training.candidates import (
    Candidate,
    Measured,
    Unchanged,
    best_of,
    classifier_of,
    measure_all,
    ngram_candidate,
    with_and_without_ngrams,
)
from export.training.evidence import MANY, Fold
from export.training.training_data import TrainingData, training_data
from server.bundle import Bundle
from server.encoders.cnn.encoder import CnnEncoder
from server.encoders.transformer.encoder import transformer_of
from server.errors import BadInput
from server.evaluate.classification_metrics import wilson
from server.learning.annotations import Annotation, OutOfFold
from server.offline.labelled import LabelledTexts, LeftOut

LEAST_ANNOTATIONS = 10
LEAST_OF_A_LABEL = 2
FOLDS = 5
"""Of the cross-validation; from MANY annotations on, one tenth is enough."""

UNCHANGED = "the bundle as it is"

Decision = Literal["accepted", "refused", "waiting"]


@dataclass(frozen=True)
class Served:
    """What answers now. `names` are the project's labels for its classes. `out_of_fold` is what it gave
    annotations while it was not fitted on them; all others are new to it.
    """

    version: str
    bundle: Bundle
    names: Sequence[str]
    out_of_fold: Mapping[int, OutOfFold]


@dataclass(frozen=True)
class Round:
    """`reason` is a sentence for people; `figures` are JSON. `classifier` is there if it is accepted, with
    `out_of_fold`, what it gave annotations while it was not fitted on them.
    """

    decision: Decision
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    classifier: FittedClassifier | None = None
    out_of_fold: Mapping[int, OutOfFold] = field(default_factory=dict)


def learn_round(
    annotations: Sequence[Annotation],
    base: Bundle,
    served: Served | None,
    features: FeatureCache,
    *,
    several: bool,
    seed: int = 1,
) -> Round:
    """`base` is the bundle that learning starts from, `several` whether a text may have several labels. The
    same annotations give the same model. Raises BadBundle.
    """
    started = time.monotonic()
    usable, dropped = learnable(annotations)
    counts = Counter(label for each in usable for label in each.labels)
    figures: dict[str, Any] = {
        "annotations": len(usable),
        "labels": dict(sorted(counts.items())),
        "not_learned_yet": dropped,
    }
    if len(usable) < LEAST_ANNOTATIONS or len(counts) < 2:
        return Round("waiting", _waiting(len(usable)), figures)
    try:
        data = _data(usable, several=several)
    except BadInput as error:
        return Round("waiting", str(error), figures)
    aside = _set_aside(usable, data)
    figures["set_aside"] = {str(each): reason for each, reason in aside.items()}
    if aside:
        usable, dropped = learnable([each for each in usable if each.annotator not in aside])
        if len(usable) < LEAST_ANNOTATIONS or len({label for each in usable for label in each.labels}) < 2:
            return Round("waiting", _waiting(len(usable)), figures)
        data = _data(usable, several=several)
    best = best_of(measure_all(_candidates(base, data, features), data, _folds(data, seed), nullcontext))
    measured = np.sort(np.concatenate([rows for _, rows in _folds(data, seed)]))
    comparison = _compare(usable, data, measured, best.estimate.probabilities, served)
    verdict = _verdict(usable, best, comparison, served)
    figures |= _figures(usable, data, best, comparison, verdict)
    decision: Decision = "accepted" if verdict.accepted else "refused"
    classifier = best.fit_on_all() if verdict.accepted else None
    figures["seconds"] = round(time.monotonic() - started, 2)
    return Round(decision, verdict.reason, figures, classifier, comparison.out_of_fold())


def learnable(annotations: Sequence[Annotation]) -> tuple[list[Annotation], list[str]]:
    """Annotations with labels of which there are enough, and the labels of which there are too few."""
    given = [each for each in annotations if each.labels]
    texts: dict[str, set[str]] = {}
    for each in given:
        for label in each.labels:
            texts.setdefault(label, set()).add(each.text)
    rare = {label for label, found in texts.items() if len(found) < LEAST_OF_A_LABEL}
    return [each for each in given if not rare & set(each.labels)], sorted(rare)


@dataclass(frozen=True)
class Comparison:
    """The new and the served model on the annotations `numbers`, which neither was fitted on: log
    probabilities float64[annotations] of their labels, whether those are chosen, and the new model's
    confidence. `groups` are the same for the same text or task.
    """

    numbers: Sequence[int]
    annotators: Sequence[int]
    groups: Rows
    new: Numbers
    served: Numbers
    new_right: Rights
    served_right: Rights
    confidence: Numbers

    def out_of_fold(self) -> dict[int, OutOfFold]:
        """Of the new model."""
        found = zip(self.numbers, self.new.tolist(), self.new_right.tolist(), strict=True)
        return {number: OutOfFold(log_probability, right) for number, log_probability, right in found}


def _waiting(annotations: int) -> str:
    if annotations < LEAST_ANNOTATIONS:
        return f"{annotations} annotations can be learned from; a first model needs {LEAST_ANNOTATIONS}."
    return f"Fewer than two labels have {LEAST_OF_A_LABEL} different texts; a first model needs two labels."


def _data(annotations: Sequence[Annotation], *, several: bool) -> TrainingData:
    """Raises BadInput."""
    labels = tuple(sorted({label for each in annotations for label in each.labels}))
    texts = LabelledTexts(
        [each.text for each in annotations],
        [each.labels for each in annotations],
        several,
        LeftOut(),
        [str(each.task) for each in annotations],
    )
    return training_data(texts, labels, balance=False)


def _folds(data: TrainingData, seed: int) -> list[Fold]:
    """Few, because annotators wait."""
    if len(data.texts) >= MANY:
        return data.labelled.folds(seed)
    return data.labelled.split(min(FOLDS, len(np.unique(data.labelled.groups))), seed)


def _candidates(base: Bundle, data: TrainingData, features: FeatureCache) -> list[Candidate | Unchanged]:
    """n-grams; with a transformer, which knows any text; with a CNN only where it has the project's labels,
    because it knows but the texts that it was trained on (docs/decisions.md).
    """
    ngrams = ngram_candidate(data.texts)
    found: list[Candidate | Unchanged] = [ngrams]
    same_labels = set(base.labels) == set(data.labels)
    is_transformer = transformer_of(base.encoders) is not None
    has_cnn = any(isinstance(encoder, CnnEncoder) for encoder in base.encoders)
    if is_transformer or (has_cnn and same_labels):
        block = features.block(base, data.texts)
        name = "transformer" if is_transformer else "CNN"
        found += with_and_without_ngrams(name, block, ngrams)
        if same_labels and (base.manifest.head, len(base.encoders)) == ("softmax", 1):
            classifier, head = classifier_of(base, block, data.labels)
            logits = block.values @ head.astype(np.float64) + classifier.head_bias
            found.append(Unchanged(UNCHANGED, [block], classifier, logits))
    return found


def _set_aside(annotations: Sequence[Annotation], data: TrainingData) -> dict[int, str]:
    """Annotators whose answers are not learned from, and why."""
    rows = of_annotators([each.annotator for each in annotations])
    if len(rows) < 2:
        return {}
    ngrams = ngram_candidate(data.texts)
    classes, groups = data.labelled.classes, data.labelled.groups

    def predict(fitted: Rows, wanted: Rows) -> Rows | None:
        """Rows whose text is among those to fit on are predicted by folds."""
        seen = np.isin(groups[wanted], groups[fitted])
        predicted = np.zeros(len(wanted), dtype=np.intp)
        if not seen.all():
            predicted[~seen] = ngrams.fit(data.labelled.targets, fitted)(wanted[~seen]).argmax(axis=1)
        for fold in np.array_split(np.unique(groups[wanted[seen]]), FOLDS):
            inside = np.isin(groups[fitted], fold)
            if inside.all():
                return None
            mine = seen & np.isin(groups[wanted], fold)
            if mine.any():
                fit = ngrams.fit(data.labelled.targets, fitted[~inside])
                predicted[mine] = fit(wanted[mine]).argmax(axis=1)
        return predicted

    return set_aside(rows, classes, predict)


def _compare(
    annotations: Sequence[Annotation],
    data: TrainingData,
    measured: Rows,
    values: Numbers,
    served: Served | None,
) -> Comparison:
    """`values` float64[measured, classes] are the new model's probabilities, out of fold."""
    targets = data.labelled.targets[measured] > 0
    mine = [annotations[row] for row in measured]
    several = data.labelled.head == "sigmoid"
    new, new_right = _log_probabilities(values, targets, several=several)
    if served is None:
        before, before_right = _by_frequency(data.labelled.targets > 0, measured, several=several)
    else:
        before, before_right = _of_served(mine, data.labels, targets, served, several=several)
    confidence = values.max(axis=1) if not several else np.maximum(values, 1 - values).min(axis=1)
    return Comparison(
        [each.id for each in mine],
        [each.annotator for each in mine],
        data.labelled.groups[measured],
        new,
        before,
        new_right,
        before_right,
        confidence,
    )


def _log_probabilities(values: Numbers, targets: Rights, *, several: bool) -> tuple[Numbers, Rights]:
    """float64[rows] of the labels in `targets` bool[rows, classes], and whether those are chosen."""
    safe = np.clip(values, 1e-9, 1 - 1e-9)
    if several:
        found: Numbers = np.where(targets, np.log(safe), np.log1p(-safe)).sum(axis=1)
        return found, ((values >= 0.5) == targets).all(axis=1)
    best = targets.argmax(axis=1)
    rows = np.arange(len(values))
    return np.log(safe[rows, best]), values.argmax(axis=1) == best


def _by_frequency(targets: Rights, measured: Rows, *, several: bool) -> tuple[Numbers, Rights]:
    """Of a model that knows nothing but how often each label is given to the other texts."""
    others = targets.sum(axis=0) - targets[measured]
    shares = (others + 1) / (len(targets) - 1 + (2 if several else targets.shape[1]))
    return _log_probabilities(shares, targets[measured], several=several)


def _of_served(
    annotations: Sequence[Annotation],
    labels: Sequence[str],
    targets: Rights,
    served: Served,
    *,
    several: bool,
) -> tuple[Numbers, Rights]:
    """Direct where the served model was not fitted on the annotation, else out of fold."""
    log_probability, right = np.zeros(len(annotations)), np.zeros(len(annotations), dtype=bool)
    unseen = [row for row, each in enumerate(annotations) if each.id not in served.out_of_fold]
    for row, each in enumerate(annotations):
        if (known := served.out_of_fold.get(each.id)) is not None:
            log_probability[row], right[row] = known.log_probability, known.right
    if unseen:
        found = probabilities(served.bundle, [annotations[row].text for row in unseen])
        number = {name: i for i, name in enumerate(served.names)}
        # labels that it does not have get nothing
        values = np.stack(
            [found[:, number[label]] if label in number else np.zeros(len(unseen)) for label in labels],
            axis=1,
        )
        log_probability[unseen], chosen = _log_probabilities(values, targets[unseen], several=several)
        if not several:
            best = [served.names[index] for index in found.argmax(axis=1)]
            chosen = np.array([best[i] in annotations[row].labels for i, row in enumerate(unseen)])
        right[unseen] = chosen
    return log_probability, right


def _verdict(
    annotations: Sequence[Annotation], best: Measured, comparison: Comparison, served: Served | None
) -> Verdict:
    verdict = judge(
        comparison.new,
        comparison.served,
        (comparison.new_right, comparison.served_right),
        comparison.groups,
        comparison.annotators,
        "the frequencies of the labels" if served is None else served.version,
    )
    if best.estimate.name == UNCHANGED:
        return Verdict(False, "No model is better than the bundle as it is.", verdict.gain)
    if served is None and verdict.accepted:
        return _first_verdict(verdict, annotations, comparison)
    always = constant([each.labels for each in annotations])
    if always is not None and served is not None and comparison.served_right.mean() < 0.5:
        reason = (
            f"Nearly all annotations say {', '.join(always)}, and the served model disagrees with most of "
            "them: annotate more tasks of other labels, or have a second person annotate."
        )
        return Verdict(False, reason, verdict.gain)
    return verdict


def _first_verdict(verdict: Verdict, annotations: Sequence[Annotation], comparison: Comparison) -> Verdict:
    """A first model must surely be right more often than one that always says the most frequent label: no
    prediction is better than such a one.
    """
    counts = Counter(each.labels for each in annotations)
    always = counts.most_common(1)[0][1] / len(annotations)
    right, compared = int(comparison.new_right.sum()), len(comparison.numbers)
    low, _ = wilson(right, compared)
    if low > always:
        return verdict
    reason = (
        f"Too early for predictions: {right / compared:.2f} right of {compared} annotations (at least "
        f"{low:.2f}), and always saying the most frequent label is right for {always:.2f}."
    )
    return Verdict(False, reason, verdict.gain)


def _figures(
    annotations: Sequence[Annotation],
    data: TrainingData,
    best: Measured,
    comparison: Comparison,
    verdict: Verdict,
) -> dict[str, Any]:
    compared = len(comparison.numbers)
    right, before = int(comparison.new_right.sum()), int(comparison.served_right.sum())
    return {
        "model": best.estimate.name,
        "compared": compared,
        "accuracy": right / compared,
        "interval_95": wilson(right, compared),
        "served_accuracy": before / compared,
        "log_loss": -float(comparison.new.mean()),
        "served_log_loss": -float(comparison.served.mean()),
        "gain": verdict.gain.mean,
        "gain_at_least": _finite(verdict.gain.low),
        "contradictions": data.contradictions,
        "annotators": _of_each(comparison),
        "auto_accept": auto_accept(comparison.confidence, comparison.new_right),
        "learned_from": len(annotations),
    }


def _of_each(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """By annotator: annotations, and how many of them the new and the served model have right."""
    return {
        str(annotator): {
            "annotations": len(rows),
            "accuracy": float(comparison.new_right[rows].mean()),
            "served_accuracy": float(comparison.served_right[rows].mean()),
            "gain": gain_of((comparison.new - comparison.served)[rows], comparison.groups[rows]).mean,
        }
        for annotator, rows in of_annotators(comparison.annotators).items()
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
