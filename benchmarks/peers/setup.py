"""One environment for each peer under .venv/peers, from the exact versions in benchmarks/peers/requirements.

    .venv/dev/bin/python -m benchmarks.peers.setup [--only a,b]

What is there stays; a peer whose requirements changed is installed anew. One that cannot be installed is told
with the reason, and the rest goes on.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers.catalogue import PEERS, Peer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=lambda names: names.split(","), default=[])
    asked = parser.parse_args()
    console = Console()
    table = Table("peer", "")
    for peer in PEERS:
        if peer.environment is None or (asked.only and peer.name not in asked.only):
            continue
        with console.status(f"{peer.name} …"):
            table.add_row(peer.name, installed(peer, peer.environment))
    console.print(table)


def installed(peer: Peer, environment: Path) -> str:
    """What became of it, in a few words."""
    wanted, done = peer.requirements.read_text("utf-8"), environment / ".done"
    if done.exists() and done.read_text("utf-8") == wanted:
        return f"{peer.version()} is there"
    python = shutil.which(peer.python) if peer.python else getattr(sys, "_base_executable", sys.executable)
    if python is None:
        return f"failed: {peer.python} is not there, the only Python that it runs in"
    for command in (
        [python, "-m", "venv", "--clear", str(environment)],
        [
            str(environment / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            str(peer.requirements),
        ],
    ):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - venv and pip
        if ended.returncode:
            errors = (
                [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
                or ended.stderr.splitlines()
                or ["no reason given"]
            )
            return f"failed: {errors[0].removeprefix('ERROR: ')}"
    done.write_text(wanted, "utf-8")
    return f"{peer.version()} installed"


if __name__ == "__main__":
    main()
