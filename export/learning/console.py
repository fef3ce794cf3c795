"""What `prelabel learn` prints of a round."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.learning.store import LearningStore


def show_round(report: dict[str, Any], store: LearningStore, project: int, console: Console) -> None:
    """The verdict with its reason, the annotators, and what more annotations would add."""
    console.print(f"[bold]{report['decision']}[/bold]: {escape(report['reason'])}", highlight=False)
    if rare := report.get("not_yet"):
        console.print(f"Too few texts to learn: {', '.join(rare)}.", markup=False, highlight=False)
    if "new" not in report:
        return
    console.print(_table(report, store, project))
    for each, found in report["annotators"].items():
        if found["set_aside"] is not None:
            line = f"Annotator {each} is set aside: {found['set_aside']}."
            console.print(line, markup=False, highlight=False)
    accept = report["auto_accept"]
    if accept["confidence"] is not None:
        console.print(
            f"At most {accept['errors']:.0%} errors from a confidence of {accept['confidence']:.3f} on: "
            f"`prelabel annotate --accept-above {accept['confidence']:.3f}`.",
            highlight=False,
        )
    points = ", ".join(f"{number:,}: {accuracy:.3f}" for number, accuracy in report["learning_curve"])
    console.print(f"Accuracy by annotated texts: {points}. {report['advice']}", highlight=False, markup=False)


def _table(report: dict[str, Any], store: LearningStore, project: int) -> Table:
    accuracy, before = report["new"]["accuracy"], report["served_model"]["accuracy"]
    low, high = accuracy["interval_95"]
    table = Table("", "answers", "new model", "served model", "agreed with the pre-label")
    for column in table.columns[1:]:
        column.justify = "right"
    agreement = store.agreement(project)
    agreed, total = sum(each.agreed for each in agreement), sum(each.total for each in agreement)
    interval = "" if low is None else f" ({low:.3f}–{high:.3f})"
    table.add_row(
        "all",
        f"{report['answers']:,}",
        f"{accuracy['value']:.3f}{interval}",
        f"{before['value']:.3f}",
        _share(agreed, total),
    )
    for annotator, each in report["annotators"].items():
        mine = [found for found in agreement if str(found.annotator) == annotator]
        shown = _share(sum(found.agreed for found in mine), sum(found.total for found in mine))
        if each["set_aside"] is None:
            figures = f"{each['answers']:,}", f"{each['accuracy']:.3f}", f"{each['served_accuracy']:.3f}"
            table.add_row(f"annotator {annotator}", *figures, shown)
        else:
            table.add_row(f"annotator {annotator}", "–", "–", "–", shown)
    return table


def _share(agreed: int, total: int) -> str:
    return f"{agreed / total:.3f} of {total:,}" if total else "–"
