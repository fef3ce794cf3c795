"""What `prelabel learn` prints of a round."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.learning.stopping import advise
from server.learning.store import LearningStore


def show_round(report: dict[str, Any], store: LearningStore, project: int, console: Console) -> None:
    """The verdict with its reason, the annotators, and what more annotations would add."""
    console.print(f"[bold]{report['decision']}[/bold]: {escape(report['reason'])}", highlight=False)
    for each, reason in report.get("set_aside", {}).items():
        console.print(f"Annotator {each} is set aside: {reason}.", markup=False, highlight=False)
    if rare := report.get("not_learned_yet"):
        console.print(f"Too few texts to learn: {', '.join(rare)}.", markup=False, highlight=False)
    if "accuracy" not in report:
        return
    console.print(_table(report, store, project))
    accept = report["auto_accept"]
    if accept["confidence"] is not None:
        console.print(
            f"With at most {accept['errors']:.0%} errors, {accept['share']:.0%} of the predictions could be "
            f"accepted unseen: `prelabel annotate --accept-above {accept['confidence']:.3f}`.",
            highlight=False,
        )
    curve = learning_curve(store, project)
    if len(curve) > 1:
        points = ", ".join(f"{number}: {accuracy:.3f}" for number, accuracy in curve)
        console.print(f"Accuracy by annotations: {points}.", highlight=False)
    console.print(advise(curve)["sentence"], highlight=False)


def learning_curve(store: LearningStore, project: int) -> list[tuple[int, float]]:
    """(annotations, accuracy on those not seen) of the rounds, the oldest first."""
    rounds = [each for each in store.rounds(project) if "accuracy" in each]
    return [(each["learned_from"], each["accuracy"]) for each in rounds]


def _table(report: dict[str, Any], store: LearningStore, project: int) -> Table:
    low, high = report["interval_95"]
    table = Table("", "annotations", "new model", "served model", "agreed with the pre-label")
    for column in table.columns[1:]:
        column.justify = "right"
    agreement = store.agreement(project)
    agreed, total = sum(each.agreed for each in agreement), sum(each.total for each in agreement)
    table.add_row(
        "all",
        f"{report['compared']:,}",
        f"{report['accuracy']:.3f} ({low:.3f}–{high:.3f})",
        f"{report['served_accuracy']:.3f}",
        _share(agreed, total),
    )
    for annotator, each in report["annotators"].items():
        mine = [found for found in agreement if str(found.annotator) == annotator]
        table.add_row(
            f"annotator {annotator}",
            f"{each['annotations']:,}",
            f"{each['accuracy']:.3f}",
            f"{each['served_accuracy']:.3f}",
            _share(sum(found.agreed for found in mine), sum(found.total for found in mine)),
        )
    return table


def _share(agreed: int, total: int) -> str:
    return f"{agreed / total:.3f} of {total:,}" if total else "–"
