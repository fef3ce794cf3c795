"""A run of `annotate` as a person meets it: a bar while it runs, Ctrl-C, the summary, the exit status."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from server.annotate.run import AnnotateOptions, AnnotateResult

SHOWN_FAILURES = 20
STOPPED = 130
"""The exit status of what Ctrl-C stopped."""


@contextmanager
def stop_on_ctrl_c(console: Console) -> Iterator[Event]:
    """The event that Ctrl-C sets. A batch under way is waited for, as Label Studio stores it all the same; a
    second Ctrl-C waits for nothing.
    """
    stop = Event()

    def note(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("Stopping when the request under way is answered; Ctrl-C again stops at once.")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[AnnotateResult], None]]:
    """A bar over both halves of the work: predicting and storing."""
    columns = (
        TextColumn("{task.fields[predicted]} predicted, {task.fields[stored]} stored, {task.fields[rate]}/s"),
        BarColumn(),
    )
    with Progress(
        *columns, TaskProgressColumn(), TimeRemainingColumn(), console=console, refresh_per_second=2
    ) as bar:
        task = bar.add_task("tasks", total=None, predicted=0, stored=0, rate=0)

        def update(outcome: AnnotateResult) -> None:
            failed, elapsed = len(outcome.failed), bar.tasks[task].elapsed or 0
            bar.update(
                task,
                total=2 * outcome.found,
                completed=outcome.predicted + outcome.stored + failed,
                predicted=f"{outcome.predicted:,}",
                stored=f"{outcome.stored:,}",
                rate=f"{outcome.stored / elapsed:,.0f}" if elapsed else 0,
            )

        yield update


def show(outcome: AnnotateResult, options: AnnotateOptions, console: Console) -> None:
    """Print what was done, what failed and why, and how to go on."""
    where = f"tab {options.view}" if options.view is not None else f"project {options.project}"
    done = (
        outcome.predicted + len(outcome.failed) if options.dry_run else outcome.stored + len(outcome.failed)
    )
    table = Table("", "tasks", title=f"{escape(outcome.version)} in {where}")
    table.columns[1].justify = "right"
    if outcome.total is not None:
        table.add_row(
            "in the "
            f"{'tab' if options.view is not None else 'project'}{', without an annotation' * options.only_unlabeled}",
            f"{outcome.total:,}",
        )
        table.add_row("had this version already", f"{max(0, outcome.total - outcome.found):,}")
    table.add_row(
        "predicted, nothing stored (--dry-run)" if options.dry_run else "predicted and stored",
        f"{outcome.predicted if options.dry_run else outcome.stored:,}",
    )
    table.add_row("of them without text (an empty prediction)", f"{outcome.without_text:,}")
    table.add_row("failed", f"{len(outcome.failed):,}")
    if not outcome.finished:
        table.add_row("left to do", f"{max(0, outcome.found - done):,}")
    console.print(table)
    _show_failures(outcome, console)
    seconds = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in outcome.seconds.items())
    rate = f"{done / outcome.elapsed:,.0f} tasks a second" if outcome.elapsed else ""
    console.print(
        f"{outcome.elapsed:.2f} s, {rate} ({seconds}; pull runs beside predict).",
        highlight=False,
        soft_wrap=True,
    )
    if not outcome.finished:
        console.print("Not finished. The same command goes on where this run stopped.", soft_wrap=True)
    console.print(_score_column(outcome), highlight=False, soft_wrap=True)


def _show_failures(outcome: AnnotateResult, console: Console) -> None:
    if not outcome.failed:
        return
    table = Table("task", "reason", title="Failed")
    for task, reason in sorted(outcome.failed.items())[:SHOWN_FAILURES]:
        table.add_row(str(task), escape(reason))
    console.print(table)
    if len(outcome.failed) > SHOWN_FAILURES:
        console.print(f"… and {len(outcome.failed) - SHOWN_FAILURES:,} more.", highlight=False)


def _score_column(outcome: AnnotateResult) -> str:
    shown, version = escape(outcome.shown_version), escape(outcome.version)
    if not outcome.shown_version:
        return 'Label Studio\'s "Prediction score" column follows the version that the project is set to: none yet.'
    if outcome.shown_version == outcome.version:
        return f'Label Studio\'s "Prediction score" column shows the scores of {version}.'
    return (
        f'Label Studio\'s "Prediction score" column shows the scores of {shown}, which the project is set to. For those of {version} choose it under '
        f"Settings → Annotation → Live Predictions, or give the connected ML backend the title {version}."
    )


def status(outcome: AnnotateResult | None) -> int:
    if outcome is not None and outcome.stopped:
        return STOPPED
    return 1 if outcome is None or outcome.failed else 0
