"""An evaluation for people: tables for the terminal, pictures for a folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.evaluate import plots
from server.evaluate.classification_metrics import ClassificationMetrics, wilson
from server.evaluate.evaluate import Evaluation
from server.evaluate.multi_label_metrics import MultiLabelMetrics

EXCERPT = 100
"""Characters shown from each end of a text."""

MOST_CONFUSED = 3
"""Labels shown that are predicted instead of another."""


def show(result: Evaluation, console: Console, *, by: str | None) -> None:
    """Print all tables; the most confident mistakes last."""
    console.print(_summary(result))
    console.print(_by_label(result) if result.several is None else _by_several_labels(result, result.several))
    for table in _by_group(result, by):
        console.print(table)
    if result.mistakes:
        console.print(_mistakes(result))


def _summary(result: Evaluation) -> Table:
    table = Table("metric", "value", title="On the labelled texts")
    table.add_row("texts", f"{result.rows:,}")
    for reason, count in result.left_out.reasons.most_common():
        table.add_row(f"left out: {reason}", f"{count:,}")
    if result.several is None:
        _add_metrics(table, result.metrics)
    else:
        _add_several_metrics(table, result.several)
    table.add_row("texts per second, tokenizer and model", f"{result.rows / result.seconds:,.0f}")
    return table


def _add_metrics(table: Table, metrics: ClassificationMetrics) -> None:
    low, high = wilson(metrics.right, metrics.rows)
    table.add_row("accuracy (95 % interval)", f"{metrics.accuracy:.4f} ({low:.4f} to {high:.4f})")
    table.add_row("macro F1", f"{metrics.f1.mean():.4f}")
    table.add_row("log loss", f"{metrics.log_loss:.4f}")
    table.add_row("expected calibration error (15 bins)", f"{metrics.calibration_error:.4f}")


def _add_several_metrics(table: Table, metrics: MultiLabelMetrics) -> None:
    low, high = wilson(metrics.right, metrics.rows)
    share = metrics.right / metrics.rows
    table.add_row("threshold of a label's probability (--threshold)", f"{metrics.threshold:g}")
    table.add_row("exactly the right labels (95 % interval)", f"{share:.4f} ({low:.4f} to {high:.4f})")
    table.add_row("micro F1", f"{metrics.micro_f1:.4f}")
    table.add_row("macro F1", f"{metrics.f1.mean():.4f}")
    table.add_row("mean average precision", f"{metrics.average_precision.mean():.4f}")


def _by_label(result: Evaluation) -> Table:
    """Precision, recall and F1 of each label, and what its texts were mostly taken for."""
    metrics = result.metrics
    table = Table("label", "texts", "precision", "recall", "F1", "predicted instead", title="By label")
    for index, label in enumerate(result.labels):
        counts = metrics.confusion[index]
        scores = (f"{score[index]:.4f}" for score in (metrics.precision, metrics.recall, metrics.f1))
        others = [other for other in counts.argsort(kind="stable")[::-1] if other != index and counts[other]]
        instead = ", ".join(f"{result.labels[other]} {counts[other]:,}" for other in others[:MOST_CONFUSED])
        more = f", {len(others) - MOST_CONFUSED} more labels" if len(others) > MOST_CONFUSED else ""
        table.add_row(escape(label), f"{counts.sum():,}", *scores, escape(instead + more))
    return table


def _by_several_labels(result: Evaluation, metrics: MultiLabelMetrics) -> Table:
    """Precision, recall and F1 at the threshold, and the average precision over all thresholds."""
    table = Table("label", "texts", "precision", "recall", "F1", "average precision", title="By label")
    columns = (metrics.precision, metrics.recall, metrics.f1, metrics.average_precision)
    for label, texts, *scores in zip(result.labels, metrics.texts, *columns, strict=True):
        table.add_row(escape(label), f"{texts:,}", *(f"{score:.4f}" for score in scores))
    return table


def _by_group(result: Evaluation, by: str | None) -> Iterator[Table]:
    for name, groups in _groups(result, by):
        table = Table(escape(name), "texts", "accuracy", "95 % interval", title=f"By {escape(name)}")
        for group, (right, rows) in groups.items():
            low, high = wilson(right, rows)
            table.add_row(escape(group), f"{rows:,}", f"{right / rows:.4f}", f"{low:.4f} to {high:.4f}")
        yield table


def _mistakes(result: Evaluation) -> Table:
    table = Table("row", "label", "predicted", "confidence", "text", title="The most confident mistakes")
    for mistake in result.mistakes:
        text = " ".join(mistake.text.split())
        excerpt = text if len(text) <= 2 * EXCERPT else f"{text[:EXCERPT]} … {text[-EXCERPT:]}"
        table.add_row(
            str(mistake.number),
            escape(mistake.label),
            escape(mistake.predicted),
            f"{mistake.confidence:.3f}",
            escape(excerpt),
        )
    return table


def draw(result: Evaluation, folder: Path, *, by: str | None) -> list[Path]:
    """Write the reliability diagram (for texts with one label) and the accuracies by group as PNG files.
    Returns their paths. Raises BadSetting, BadInput.
    """
    paths = []
    if result.several is None:
        paths.append(folder / "reliability.png")
        plots.reliability(result.metrics, paths[0])
    for name, groups in _groups(result, by):
        paths.append(folder / f"accuracy-by-{'group' if groups is result.by_group else 'length'}.png")
        plots.accuracy_by(groups, name, paths[-1])
    return paths


def _groups(result: Evaluation, by: str | None) -> list[tuple[str, Mapping[str, Sequence[int]]]]:
    """(what the groups are, [correct rows, rows] by group)."""
    lengths = {
        f"up to {bound:,}" if bound else "longer": counts for bound, counts in result.by_length.items()
    }
    return [("length in tokens", lengths), *([(by, result.by_group)] if by else [])]
