"""Fuzz everything that reads a request or a file, for a chosen time.

    .venv/dev/bin/python -m tests.fuzz.run [--seconds 60] [--seed 1] [--only NAME] [--bombs MB]
    .venv/dev/bin/python -m tests.fuzz.run --replay tests/fuzz/found/NAME

The targets run one after another. Findings are kept in tests/fuzz/found, each with the command that
reproduces it; the exit status is then 1.
"""

import argparse
import faulthandler
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import results
from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.settings import load_settings
from tests.conftest import tiny_network
from tests.e2e.conftest import serving
from tests.fuzz.bombs import bombs
from tests.fuzz.files import Bundles, Tables, checkpoints, vocabularies
from tests.fuzz.http import PASSWORD, TOKEN, USER, InProcess, ThroughSocket, huge_text
from tests.fuzz.pure import Configs, ExtraParams, Tensors, Texts, Webhooks
from tests.fuzz.target import FOUND, Finding, Target, Totals, attack, memory_mb, problem_with

console = Console(stderr=True)

HUGE_MB = 100
"""Sizes of a single text that is sent to each kind of server."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="for all targets together; the bombs take half a minute more (default: %(default)g)",
    )
    parser.add_argument("--seed", type=int, help="makes the same inputs again, as far as the time allows")
    parser.add_argument("--only", action="append", metavar="NAME", help="a target; may be repeated")
    parser.add_argument(
        "--bombs",
        type=int,
        default=1024,
        metavar="MB",
        help="that a packed file unpacks to, 0 for none (default: %(default)s)",
    )
    parser.add_argument("--replay", type=Path, help="an input that was kept")
    options = parser.parse_args()
    faulthandler.enable()
    logging.captureWarnings(capture=True)
    with (
        tempfile.TemporaryDirectory(prefix="prelabel-fuzz-", dir=fast_folder()) as folder,
        targets(Path(folder)) as (found, labeler),
    ):
        if options.replay:
            raise SystemExit(replay(found, options.replay))
        chosen = [target for target in found if not options.only or target.name in options.only]
        seed = options.seed if options.seed is not None else time.time_ns() % 2**32
        begun = memory_mb()
        all_totals = run(chosen, options.seconds, seed)
        problems = {totals.target: totals.findings for totals in all_totals if totals.findings}
        if not options.only:
            problems |= {
                name: {problem: 1}
                for name, problem in large_ones(found, labeler, Path(folder), options.bombs)
            }
        ended = memory_mb()
    show(all_totals, problems, seed)
    if not options.only:
        results.write("fuzz", figures(all_totals, problems, begun, ended))
    raise SystemExit(bool(problems))


def fast_folder() -> str | None:
    """A folder in memory if there is one: one file per input is too much for a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is created in it


@contextmanager
def targets(folder: Path) -> Iterator[tuple[list[Target], Labeler]]:
    """All targets, with a network that is small enough for thousands of predictions per second, and the
    labeler of `predict`.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch warns about its earlier formats
        network = tiny_network()
        bundle, other = (export_bundle(network, folder / name) for name in ("tiny", "other"))
        yield (
            [*stack.enter_context(in_this_process(bundle, other, folder)), by_socket(bundle, folder, stack)],
            labeler_of(bundle, stack),
        )


def learning_in(folder: Path) -> dict[str, Any]:
    """Settings of a server that learns."""
    return {"learn": "http://192.0.2.7:8080", "learn_folder": folder / "learned"}


@contextmanager
def in_this_process(bundle: Bundle, other: Bundle, folder: Path) -> Iterator[list[Target]]:
    """All targets except the server in its own process. `folder` is for their input files."""
    with ExitStack() as stack:
        open_door = stack.enter_context(InProcess("http", [bundle, other], 0.4, **learning_in(folder)))
        closed = stack.enter_context(
            InProcess("http, credentials", [bundle], 0.1, basic_auth_user=USER, basic_auth_pass=PASSWORD)
        )
        network = tiny_network()
        files = Tables(labeler_of(bundle, stack), folder)
        yield [
            open_door, closed, Configs(), ExtraParams(), Webhooks(), Tensors(), Texts(bundle), files,
            checkpoints(network.cnn, folder), vocabularies(network.tokens, folder), Bundles(bundle, folder),
        ]  # fmt: skip


def labeler_of(bundle: Bundle, stack: ExitStack) -> Labeler:
    classifier = stack.enter_context(
        open_classifier(load_settings(bundle=(bundle.path,), device="cpu", engine="tables"))
    )
    return Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))


def by_socket(bundle: Bundle, folder: Path, stack: ExitStack) -> ThroughSocket:
    log = folder / "server.log"
    client = stack.enter_context(
        serving(
            bundle.path,
            log,
            settings={
                "PRELABEL_PATH_PREFIX": "/p",
                "PRELABEL_ADMIN_TOKEN": TOKEN,
                "PRELABEL_LOG_FORMAT": "json",
            },
        )
    )
    return ThroughSocket((client.base_url.host, client.base_url.port or 0), log)


def run(chosen: list[Target], seconds: float, seed: int, keep: Path = FOUND) -> list[Totals]:
    """Run every target for its share of the time."""
    whole = sum(target.weight for target in chosen)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[inputs]:,} inputs, {task.fields[findings]} findings"),
        TimeRemainingColumn(),
    )
    all_totals = []
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=seconds, inputs=0, findings=0)
        before = 0.0
        for target in chosen:
            share = seconds * target.weight / whole

            def tell(totals: Totals, before: float = before) -> None:
                if totals.inputs % 100 == 0:
                    bar.update(
                        task,
                        description=totals.target,
                        completed=before + totals.seconds,
                        inputs=totals.inputs,
                        findings=len(totals.findings),
                    )

            all_totals.append(attack(target, seed, until(share), tell, keep))
            before += share
    return all_totals


def until(seconds: float) -> Callable[[Totals], bool]:
    return lambda totals: totals.seconds < seconds


def large_ones(
    found: list[Target], labeler: Labeler, folder: Path, megabytes: int
) -> Iterator[tuple[str, str]]:
    """Run each bomb once. Returns findings by name."""
    for target in found:
        if isinstance(target, InProcess | ThroughSocket) and megabytes:
            console.print(f"{target.name}: a text of {HUGE_MB} MB")
            problem = problem_with(target, huge_text(HUGE_MB))
            if problem is not None:
                yield f"{target.name}, a text of {HUGE_MB} MB", problem
    for name, attempt in bombs(labeler, folder, megabytes * 2**20) if megabytes else ():
        console.print(f"tables: {megabytes} MB as {name}")
        try:
            attempt()
        except Finding as finding:
            yield name, str(finding)


def show(all_totals: list[Totals], problems: dict[str, dict[str, int]], seed: int) -> None:
    table = Table(title=f"Fuzzing, seed {seed}", title_justify="left")
    table.add_column("target")
    for column in ("inputs", "per second", "findings", "memory before, MB", "after"):
        table.add_column(column, justify="right")
    for totals in all_totals:
        before, after = totals.memory_mb
        table.add_row(
            totals.target,
            f"{totals.inputs:,}",
            f"{totals.per_s:,.0f}",
            str(len(totals.findings)),
            f"{before:,.0f}",
            f"{after:,.0f}",
        )
    Console().print(table)
    for name, found in problems.items():
        for problem, inputs in found.items():
            Console().print(
                f"{name}: {problem} ({inputs} inputs)", markup=False, highlight=False, soft_wrap=True
            )
    if problems:
        Console().print(
            f"Inputs that found something, and how to try them again, are in {FOUND}.", soft_wrap=True
        )


def figures(
    all_totals: list[Totals], problems: dict[str, dict[str, int]], begun: float, ended: float
) -> dict[str, object]:
    return {
        "targets": [
            {
                "target": totals.target,
                "inputs": totals.inputs,
                "per_s": totals.per_s,
                "findings": len(totals.findings),
            }
            for totals in all_totals
        ],
        "inputs": sum(totals.inputs for totals in all_totals),
        "findings": sum(len(found) for found in problems.values()),
        "memory_mb": {"start": begun, "end": ended},
    }


def replay(found: list[Target], path: Path) -> int:
    """Run a kept input again and show its exception."""
    name = path.name.rpartition("-")[0]
    target = next((target for target in found if target.name.replace(" ", "-") == name), None)
    if target is None:
        console.print(
            f"{path.name}: no target has that name; they are {', '.join(target.name for target in found)}."
        )
        return 2
    target.check(path.read_bytes())
    console.print(f"{target.name}: nothing found")
    return 0


if __name__ == "__main__":
    main()
