"""A progress bar for one stage of a training. Needs no torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def stage_bar(console: Console, what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Call the yielded function for each of `total` steps, or with the number of steps just done."""
    with Progress(
        SpinnerColumn(), TextColumn(what), BarColumn(), TimeElapsedColumn(), console=console
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps=1: bar.advance(task, steps)
        bar.update(task, total=total or 1, completed=total or 1)
