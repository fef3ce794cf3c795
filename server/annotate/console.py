"""What a user sees of a run of `prelabel annotate`: progress bar, Ctrl-C, summary, exit status."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from server.annotate.accept import AcceptResult
from server.annotate.background import StopRequest
from server.annotate.options import AnnotateOptions
from server.annotate.run import AnnotateResult
from server.offline.progress_bar import stopped_if_shown

MAX_SHOWN_FAILURES = 20

STOPPED = 130
"""Exit status after Ctrl-C."""

STOPPING = "Stopping: storing the predictions made so far. Ctrl-C again leaves at once."
LEAVING = "Left at once: a request under way is not waited for; Label Studio may still store its predictions."


@contextmanager
def stop_on_ctrl_c(console: Console) -> Iterator[StopRequest]:
    """The first Ctrl-C requests a stop, the second raises KeyboardInterrupt in the main thread, a third kills
    the process.
    """
    stop = StopRequest()

    def handle(*_: object) -> None:
        if stop.is_set():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        stop.set()
        console.print(STOPPING)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def exit_at_once(status: int) -> NoReturn:
    """End the process without waiting for any thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def progress_bar(console: Console, *, dry_run: bool) -> Iterator[Callable[[AnnotateResult], None]]:
    """A progress bar that counts each task twice, once predicted and once stored; with `dry_run` once. It is
    shown from the first call on.
    """
    columns = (
        TextColumn("{task.fields[predicted]} predicted, {task.fields[stored]} stored, {task.fields[rate]}/s"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, refresh_per_second=2)
    task = bar.add_task("tasks", total=None, predicted=0, stored=0, rate=0)

    def update(result: AnnotateResult) -> None:
        elapsed = bar.tasks[task].elapsed or 0
        done = result.predicted if dry_run else result.stored
        bar.update(
            task,
            total=result.found if dry_run else 2 * result.found,
            completed=done + len(result.failed) + (0 if dry_run else result.predicted),
            predicted=f"{result.predicted:,}",
            stored=f"{result.stored:,}",
            rate=f"{done / elapsed:,.0f}" if elapsed else 0,
        )
        bar.start()

    with stopped_if_shown(bar):
        yield update


def show(result: AnnotateResult, options: AnnotateOptions, console: Console) -> None:
    """Print what was done, what failed and why, and how to continue."""
    done = result.predicted if options.dry_run else result.stored
    console.print(_summary(result, options, done))
    _show_failures(result.failed, console)
    lines = []
    if result.elapsed:
        stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items())
        rate = f"{done / result.elapsed:,.0f} tasks a second"
        lines.append(f"{result.elapsed:.2f} s, {rate} ({stages}; fetch overlaps predict).")
    if result.truncation:
        lines.append(result.truncation)
    if not result.finished:
        lines.append("Not finished. Run the same command again to continue: what is stored stays.")
    lines.append(_score_column(result))
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_accepted(result: AcceptResult, options: AnnotateOptions, console: Console) -> None:
    """Print how many predictions became annotations, and how many tasks are left to people."""
    table = Table("", "tasks", title=f"{escape(result.version)} in project {options.project}")
    table.columns[1].justify = "right"
    accepted = f"confidence of at least {options.accept_above:g}: "
    accepted += "nothing stored (--dry-run)" if options.dry_run else "annotated"
    table.add_row("without an annotation", f"{result.looked_at:,}")
    table.add_row(accepted, f"{result.accepted:,}")
    table.add_row("left to people", f"{result.left_to_people:,}")
    table.add_row("failed", f"{len(result.failed):,}")
    console.print(table)
    _show_failures(result.failed, console)
    if not result.finished:
        console.print("Not finished. Run the same command again to continue.", highlight=False)


def _summary(result: AnnotateResult, options: AnnotateOptions, done: int) -> Table:
    where = f"tab {options.view}" if options.view is not None else f"project {options.project}"
    table = Table("", "tasks", title=f"{escape(result.version)} in {where}")
    table.columns[1].justify = "right"
    if result.total is not None:
        unlabeled = ", without an annotation" if options.only_unlabeled else ""
        table.add_row(
            f"in the {'tab' if options.view is not None else 'project'}{unlabeled}", f"{result.total:,}"
        )
        table.add_row("had this version already", f"{max(0, result.total - result.found):,}")
    table.add_row(
        "predicted, nothing stored (--dry-run)" if options.dry_run else "predicted and stored", f"{done:,}"
    )
    table.add_row("of them without text (an empty prediction)", f"{result.without_text:,}")
    table.add_row("failed", f"{len(result.failed):,}")
    if not result.finished:
        table.add_row("left to do", f"{max(0, result.found - done - len(result.failed)):,}")
    return table


def _show_failures(failed: dict[int, str], console: Console) -> None:
    if not failed:
        return
    table = Table("task", "reason", title="Failed")
    for task, reason in sorted(failed.items())[:MAX_SHOWN_FAILURES]:
        table.add_row(str(task), escape(reason))
    console.print(table)
    if len(failed) > MAX_SHOWN_FAILURES:
        console.print(f"… and {len(failed) - MAX_SHOWN_FAILURES:,} more.", highlight=False)


def _score_column(result: AnnotateResult) -> str:
    shown, version, column = result.shown_version, result.version, 'Label Studio\'s "Prediction score" column'
    if not shown:
        return f"{column} shows the scores of the project's model version, which is not set yet."
    if shown == version:
        return f"{column} shows the scores of {version}."
    return (
        f"{column} shows the scores of {shown}, the project's model version. To see those of {version}, "
        "choose it under Settings → Annotation → Live Predictions, or make it the ML backend's title."
    )


def exit_status(result: AnnotateResult | None, stop: StopRequest) -> int:
    """130 after a run that Ctrl-C stopped, 1 if a task failed, else 0."""
    if result is None or not result.finished:
        return STOPPED if stop.is_set() else 1
    return 1 if result.failed else 0
