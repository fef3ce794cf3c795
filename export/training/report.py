"""What `prelabel train` prints: the candidates and the baseline, the labels, what more texts would bring,
and why a model is no better than guessing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.training.evidence import Estimate, Labelled
from export.training.training_data import TrainingData, folded
from export.training.with_sentence_encoder import sentences_of
from server.bundle import Head

FEW = 5
"""Texts of a label below which the report warns of it."""

NOTABLE = 0.005
"""Difference in accuracy that is mentioned."""

ACCURACY: dict[Head, str] = {"softmax": "accuracy", "sigmoid": "all labels right"}
"""What the accuracy is called: of texts with several labels, those are right that have all of them right."""

MOST_LABELS = 40
"""Rows of the table of labels."""


def show(
    console: Console,
    data: TrainingData,
    estimates: Sequence[Estimate],
    best: Estimate,
    metrics: dict[str, Any],
) -> None:
    """Print the report; `estimates` include the baseline's, `metrics` are those of the manifest."""
    if data.left_out.total:
        _print(console, f"Left out: {data.left_out}.")
    console.print(_candidates(estimates, best, metrics["folds"], len(data.texts), data.labelled.head))
    console.print(_labels(data.labels, data.labelled, best))
    points = ", ".join(f"{texts:,} texts {accuracy:.3f}" for texts, accuracy in metrics["learning_curve"])
    _print(console, f"Learning curve (accuracy of n-grams on texts that they were not fitted on): {points}.")
    for line in sentences_of(metrics):
        _print(console, line)
    if "test" in metrics:
        figures = metrics["test"]
        low, high = figures["interval_95"]
        _print(
            console,
            f"{figures['texts']:,} test texts: {ACCURACY[data.labelled.head]} {figures['accuracy']:.4f} "
            f"({low:.4f} to {high:.4f}), "
            f"macro F1 {figures['macro_f1']:.4f}, calibration error {figures['calibration_error']:.4f}.",
        )
    for warning in metrics["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True, highlight=False)


def warnings_of(data: TrainingData, best: Estimate, baseline: Estimate) -> list[str]:
    """Sentences about what is wrong with the labelled texts or the model, and what would help."""
    labelled, counts, texts = data.labelled, data.counts, len(data.texts)
    found = []
    if data.test is not None and (known := _known(data.test.texts, data.texts)):
        found.append(
            f"{known:,} of the {len(data.test.texts):,} test texts are among the training texts: the figures "
            "of the test texts are too good. Take them out of one of the files."
        )
    if contradictions := data.contradictions:
        found.append(
            f"{contradictions:,} texts occur several times with different labels, which no model can "
            "learn. Decide on one."
        )
    few = [f"{label} ({count})" for label, count in zip(data.labels, counts, strict=True) if count < FEW]
    if few:
        found.append(
            f"Labels with fewer than {FEW} texts cannot be learned or measured: {', '.join(few[:20])}. Label "
            "more texts of them."
        )
    most = _share_right_by_guessing(labelled)
    if best.figures["interval_95"][0] <= most:
        found.append(
            f"This is not measurably better than always answering the same ({most:.3f} right): "
            f"{_reason(labelled, counts.tolist(), texts)}"
        )
    elif (lost := baseline.figures["accuracy"] - best.figures["accuracy"]) > NOTABLE:
        found.append(f"The baseline ({baseline.name}) does better on these texts, by {lost:.3f}.")
    return found


def _known(texts: Sequence[str], others: Sequence[str]) -> int:
    """How many of the texts are among the others."""
    return sum(map(set(map(folded, others)).__contains__, map(folded, texts)))


def _share_right_by_guessing(labelled: Labelled) -> float:
    rows, counts = np.unique(labelled.targets, axis=0, return_counts=True)
    return float(counts.max() / len(labelled.targets)) if len(rows) else 0.0


def _reason(labelled: Labelled, counts: list[int], texts: int) -> str:
    different = len(np.unique(labelled.groups))
    if different < texts / 2:
        return f"only {different:,} of {texts:,} texts are different. Label more different texts."
    if min(counts) < 20:
        return f"there are few texts ({texts:,}; the rarest label has {min(counts)}). Label more of them."
    return (
        "the texts do not show what the labels depend on. Look whether the right column is read, and "
        "whether people agree on the labels."
    )


def _candidates(estimates: Sequence[Estimate], best: Estimate, folds: int, texts: int, head: Head) -> Table:
    table = Table(
        "candidate",
        ACCURACY[head],
        "macro F1",
        "log loss",
        "calibration error",
        "seconds",
        title=(
            f"Measured on {best.figures['texts']:,} held-out texts of {texts:,}"
            if folds == 1
            else f"Estimated by {folds}-fold cross-validation on {texts:,} texts"
        ),
    )
    for estimate in estimates:
        figures = estimate.figures
        table.add_row(
            f"[bold]{escape(estimate.name)}, kept[/bold]" if estimate is best else escape(estimate.name),
            *(f"{figures[name]:.3f}" for name in ("accuracy", "macro_f1", "log_loss", "calibration_error")),
            f"{estimate.seconds:.1f}",
        )
    return table


def _labels(labels: Sequence[str], labelled: Labelled, best: Estimate) -> Table:
    table = Table("label", "texts", "found (recall)", "F1", "average precision")
    counts = (labelled.targets > 0).sum(axis=0)
    for i in np.argsort(-counts, kind="stable")[:MOST_LABELS]:
        precision = best.figures["average_precision"][i]
        table.add_row(
            escape(labels[i]),
            f"{counts[i]:,}",
            f"{best.figures['recall'][i]:.3f}",
            f"{best.figures['f1'][i]:.3f}",
            "-" if precision is None else f"{precision:.3f}",
        )
    if len(labels) > MOST_LABELS:
        table.caption = f"and {len(labels) - MOST_LABELS} rarer labels"
    return table


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
