"""The progress bar of the commands that read a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

OnProgress = Callable[[int, int], None]
"""Called with (rows done, bytes of the input read)."""


@contextmanager
def progress_bar(console: Console, total: int | None) -> Iterator[OnProgress]:
    """A bar from 0 to `total` bytes, shown from the first call on, so that an error of the input comes alone.
    The rate counts the rows since the first call.
    """
    columns = (
        TextColumn("{task.fields[rows]:,} texts{task.fields[rate]}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console)
    task = bar.add_task("texts", total=total, rows=0, rate="")
    first: tuple[int, float] | None = None

    def update(rows: int, read: int) -> None:
        nonlocal first
        elapsed = bar.tasks[task].elapsed or 0.0
        first = first or (rows, elapsed)
        # a file of one chunk has no rate
        rate = f", {(rows - first[0]) / (elapsed - first[1]):,.0f}/s" if elapsed > first[1] else ""
        bar.update(task, completed=read, rows=rows, rate=rate)
        bar.start()

    with stopped_if_shown(bar):
        yield update
        bar.update(task, completed=bar.tasks[task].total or 0)


@contextmanager
def stopped_if_shown(bar: Progress) -> Iterator[None]:
    """Stop the bar at the end of the block; one that was never started would leave an empty line."""
    try:
        yield
    finally:
        if bar.live.is_started:
            bar.stop()


def size_of(path: Path) -> int | None:
    """The file's size in bytes, None if there is no such file."""
    return path.stat().st_size if path.exists() else None
