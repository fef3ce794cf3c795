"""An evaluation as a person reads it: tables for the terminal, pictures for a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.evaluate import plots
from server.evaluate.classification_metrics import wilson
from server.evaluate.evaluate import Evaluation

EXCERPT = 100
"""Characters shown of a text at each of its ends."""


def show(result: Evaluation, console: Console, *, by: str | None) -> None:
    """Print everything; the most confident mistakes last."""
    figures = result.figures
    low, high = wilson(figures.right, figures.rows)
    summary = Table("figure", "value", title="On the labelled texts")
    summary.add_row("texts", f"{figures.rows:,}")
    if result.left_out:
        summary.add_row("tasks left out, without a label or with a tie", f"{result.left_out:,}")
    summary.add_row("accuracy (95 % interval)", f"{figures.accuracy:.4f} ({low:.4f} to {high:.4f})")
    summary.add_row("macro F1", f"{figures.f1.mean():.4f}")
    summary.add_row("log loss", f"{figures.log_loss:.4f}")
    summary.add_row("expected calibration error (15 bins)", f"{figures.calibration_error:.4f}")
    summary.add_row("texts a second, tokenizer and model", f"{figures.rows / result.seconds:,.0f}")
    console.print(summary)

    classes = Table(
        "label",
        "precision",
        "recall",
        "F1",
        *(f"→ {escape(label)}" for label in result.labels),
        title="By label, and what each was taken for",
    )
    for i, label in enumerate(result.labels):
        scores = (f"{share[i]:.4f}" for share in (figures.precision, figures.recall, figures.f1))
        classes.add_row(escape(label), *scores, *(f"{count:,}" for count in figures.confusion[i]))
    console.print(classes)

    for what, groups in _groups(result, by):
        table = Table(what, "texts", "accuracy", "95 % interval", title=f"By {what}")
        for name, (right, rows) in groups.items():
            low, high = wilson(right, rows)
            table.add_row(escape(name), f"{rows:,}", f"{right / rows:.4f}", f"{low:.4f} to {high:.4f}")
        console.print(table)

    mistakes = Table("row", "label", "predicted", "confidence", "text", title="The most confident mistakes")
    for mistake in result.mistakes:
        text = " ".join(mistake.text.split())
        excerpt = text if len(text) <= 2 * EXCERPT else f"{text[:EXCERPT]} … {text[-EXCERPT:]}"
        mistakes.add_row(
            str(mistake.number),
            escape(mistake.label),
            escape(mistake.predicted),
            f"{mistake.confidence:.3f}",
            escape(excerpt),
        )
    console.print(mistakes)


def draw(result: Evaluation, folder: Path, *, by: str | None) -> list[Path]:
    """Write the reliability diagram and the accuracies by group as PNG files; their paths. Raises BadSetting,
    BadInput.
    """
    paths = [folder / "reliability.png"]
    plots.reliability(result.figures, paths[0])
    for what, groups in _groups(result, by):
        paths.append(folder / f"accuracy-by-{'length' if groups is not result.by_group else 'group'}.png")
        plots.accuracy_by(groups, what, paths[-1])
    return paths


def _groups(result: Evaluation, by: str | None) -> list[tuple[str, Mapping[str, Sequence[int]]]]:
    lengths = {
        f"up to {bound:,}" if bound else "longer": counts for bound, counts in result.by_length.items()
    }
    return [("length in tokens", lengths), *([(by, result.by_group)] if by else [])]
