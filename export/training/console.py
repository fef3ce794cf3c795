"""Console output of `prelabel train`: progress bars, final figures and warnings."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from export.training.calibration import MIN_CALIBRATED
from export.training.dataset import Examples


class FitBar:
    """Shows a fit: a bar with loss and accuracy, and one line for each epoch. See `loop.FitObserver`."""

    def __init__(self, console: Console, steps: int, *, done: int) -> None:
        shown = TextColumn(
            "epoch {task.fields[epoch]}, loss {task.fields[loss]:.3f}, accuracy {task.fields[accuracy]:.3f}"
        )
        self._progress = Progress(
            shown,
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            "fit", total=steps, completed=done, epoch=1, loss=0.0, accuracy=0.0
        )

    def __enter__(self) -> "FitBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_step(self, epoch: int, loss: float, accuracy: float) -> None:
        self._progress.update(self._task, advance=1, epoch=epoch, loss=loss, accuracy=accuracy)

    def on_epoch(self, line: dict[str, Any]) -> None:
        self._progress.console.print(
            f"epoch {line['epoch']}: held-out loss {line['validation_loss']:.4f}, accuracy "
            f"{line['validation_accuracy']:.4f}",
            highlight=False,
        )


def print_metrics(metrics: dict[str, Any], temperature: float, console: Console) -> None:
    """One line for the held-out texts, and one for the test texts if there are any."""
    for name, what in (
        ("held_out", "held-out training texts, which chose the epoch and the temperature"),
        ("test", "test texts"),
    ):
        if name in metrics:
            figures = metrics[name]
            low, high = figures["interval_95"]
            console.print(
                f"{figures['texts']:,} {what}: accuracy {figures['accuracy']:.4f} ({low:.4f} to {high:.4f}), "
                f"calibration error {figures['calibration_error']:.4f} at temperature {temperature:.3f}",
                soft_wrap=True,
                highlight=False,
            )


def print_warnings(metrics: dict[str, Any], held_out: Examples, console: Console) -> None:
    """Warn if the held-out texts do not show that the network beats a constant guess, or are too few for a
    calibration. `metrics` are those of the held-out texts.
    """
    frequent = int(held_out.classes.bincount().max()) / len(held_out)
    if metrics["interval_95"][0] <= frequent:
        console.print(
            f"[yellow]On {len(held_out):,} held-out texts this is not measurably better than "
            f"always predicting the most frequent label ({frequent:.2f}): "
            "train on more labelled texts before you use it.[/yellow]",
            soft_wrap=True,
        )
    if len(held_out) < MIN_CALIBRATED:
        console.print(
            f"[yellow]Confidences are not calibrated: calibration needs at least {MIN_CALIBRATED} held-out "
            "texts, which are a tenth of the training texts.[/yellow]",
            soft_wrap=True,
        )
