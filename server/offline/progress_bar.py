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
    """A bar from 0 to `total` bytes; the rate counts the rows since the first call."""
    columns = (
        TextColumn("{task.fields[rows]} texts, {task.fields[rate]}/s"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("texts", total=total, rows=0, rate=0)
        first: int | None = None

        def update(rows: int, read: int) -> None:
            nonlocal first
            first = rows if first is None else first
            elapsed = bar.tasks[task].elapsed or 0
            rate = f"{(rows - first) / elapsed:,.0f}" if elapsed else 0
            bar.update(task, completed=read, rows=rows, rate=rate)

        yield update
        bar.update(task, completed=bar.tasks[task].total or 0)


def size_of(path: Path) -> int | None:
    """The file's size in bytes, None if there is no such file."""
    return path.stat().st_size if path.exists() else None
