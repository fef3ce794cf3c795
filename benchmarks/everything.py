"""All benchmarks, each as a process of its own, one after the other; then the report of what they found.

    .venv/dev/bin/python -m benchmarks.everything [REVIEWS.csv] [--only engine,stage_breakdown]

One that fails is told and the rest goes on; the exit status is then 1. Other serving frameworks are measured
where `make peers` has built their environments.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks.report import SECTIONS
from benchmarks.texts import arguments
from server.engines.devices import NVIDIA_DRIVER
from tests.e2e.conftest import ROOT

PEERS, GPU = "peers", "gpu"

MODULES = {
    section.benchmark: f"benchmarks.{section.module or section.benchmark}"
    for section in SECTIONS
    if not section.by
}
"""By the names of their figures; that which takes longest and needs most is last."""
MODULES[PEERS] = MODULES.pop(PEERS)
SOAK = {"soak": MODULES.pop("soak")}
"""Of the report's, what takes too long to be run with the others."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        default=list(MODULES),
        metavar="NAME,NAME",
        help=f"some of {', '.join(MODULES)}",
    )
    asked = parser.parse_args()
    if unknown := set(asked.only) - MODULES.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}.")
    console = Console(stderr=True)
    names = [name for name in MODULES if name in asked.only]
    if PEERS in names and not (ROOT / ".venv" / "peers").is_dir():
        names.remove(PEERS)
        console.print(
            "Other serving frameworks are left out: `make peers` builds their environments and measures "
            "them.",
            soft_wrap=True,
        )
    if GPU in names and not NVIDIA_DRIVER.exists():
        names.remove(GPU)
        console.print("The GPU is left out: this host has no NVIDIA_DRIVER driver.")
    words = [str(asked.reviews.resolve())] if asked.reviews else []
    if asked.bundle != parser.get_default("bundle"):
        words += ["--bundle", str(asked.bundle.resolve())]
    failed = run_all({name: [sys.executable, "-m", MODULES[name], *words] for name in names}, console)
    failed += run_all({"report": [sys.executable, "-m", "benchmarks.report"]}, console)
    if failed:
        console.print(
            f"[red]Failed:[/red] {', '.join(failed)}; what each said is above.",
            highlight=False,
            soft_wrap=True,
        )
    raise SystemExit(bool(failed))


def run_all(commands: Mapping[str, Sequence[str]], console: Console) -> list[str]:
    """Names of those that ended with another status than 0."""
    failed = []
    for number, (name, command) in enumerate(commands.items(), start=1):
        console.rule(f"{number} of {len(commands)}: {name}", align="left")
        begun = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - this very program
        console.print(
            f"{name}: {'done' if status == 0 else f'ended with status {status}'} after "
            f"{time.perf_counter() - begun:.0f} s",
            highlight=False,
        )
        if status:
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()
