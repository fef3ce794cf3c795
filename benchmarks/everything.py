"""Runs all benchmarks one after the other, each in its own process, then renders the report.

    .venv/dev/bin/python -m benchmarks.everything [REVIEWS.csv] [--only engine,stage_breakdown]

A failure is reported, the other benchmarks still run, and the exit status is 1. Other serving frameworks are
measured if `make peers` has built their environments.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks.report import SECTIONS
from benchmarks.results import ROOT
from benchmarks.texts import arguments
from server.engines.devices import NVIDIA_DRIVER

PEERS, GPU = "peers", "gpu"

MODULES = {
    section.benchmark: f"benchmarks.{section.module or section.benchmark}"
    for section in SECTIONS
    if not section.by
}
"""By the names of their figures; the longest, which needs most, is last."""
MODULES[PEERS] = MODULES.pop(PEERS)
SOAK = {"soak": MODULES.pop("soak")}
"""In the report, but too long to run with the others."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        default=list(MODULES),
        metavar="NAME,NAME",
        help=f"only these of {', '.join(MODULES)}",
    )
    args = parser.parse_args()
    if unknown := set(args.only) - MODULES.keys():
        parser.error(
            f"--only: unknown {', '.join(sorted(unknown))}; the benchmarks are {', '.join(MODULES)}."
        )
    console = Console(stderr=True)
    names = [name for name in MODULES if name in args.only]
    if PEERS in names and not (ROOT / ".venv" / "peers").is_dir():
        names.remove(PEERS)
        console.print(
            "Skipped: other serving frameworks (`make peers` builds their environments and measures them).",
            soft_wrap=True,
        )
    if GPU in names and not NVIDIA_DRIVER.exists():
        names.remove(GPU)
        console.print("Skipped: the GPU (this host has no NVIDIA driver).")
    options = [str(args.reviews.resolve())] if args.reviews else []
    if args.bundle != parser.get_default("bundle"):
        options += ["--bundle", str(args.bundle.resolve())]
    failed = run_all({name: [sys.executable, "-m", MODULES[name], *options] for name in names}, console)
    failed += run_all({"report": [sys.executable, "-m", "benchmarks.report"]}, console)
    if failed:
        console.print(
            f"[red]Failed:[/red] {', '.join(failed)}; their output is above.",
            highlight=False,
            soft_wrap=True,
        )
    raise SystemExit(bool(failed))


def run_all(commands: Mapping[str, Sequence[str]], console: Console) -> list[str]:
    """Runs the commands in order; returns the names of those with an exit status other than 0."""
    failed = []
    for number, (name, command) in enumerate(commands.items(), start=1):
        console.rule(f"{number} of {len(commands)}: {name}", align="left")
        start = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - this very program
        console.print(
            f"{name}: {'done' if status == 0 else f'ended with status {status}'} after "
            f"{time.perf_counter() - start:.0f} s",
            highlight=False,
        )
        if status:
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()
