"""Creates the peers' environments under .venv/peers, from the exact versions in
benchmarks/peers/requirements.

    .venv/dev/bin/python -m benchmarks.peers.setup [--transformer] [--only a,b]

With --transformer, those of `benchmarks.peers.transformer.run`. $PEER_ENVIRONMENTS names another folder than
.venv/peers. Existing environments stay; one whose requirements changed is installed again. If a peer cannot
be installed, the reason is shown and the others are installed.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers.peer_list import PEERS, Peer
from benchmarks.peers.transformer.peer_list import peers_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=lambda names: names.split(","), default=[], metavar="NAME,NAME")
    parser.add_argument("--transformer", action="store_true", help="the peers with a transformer")
    args = parser.parse_args()
    console = Console()
    table = Table("environment", "")
    # one line for peers that share an environment
    for environment, peer in {
        peer.environment: peer for peer in (peers_of() if args.transformer else PEERS)
    }.items():
        if environment is None or (args.only and environment.name not in args.only):
            continue
        with console.status(f"{environment.name} …"):
            table.add_row(environment.name, installed(peer, environment))
    console.print(table)


def installed(peer: Peer, environment: Path) -> str:
    """Installs the peer; returns the outcome in a few words."""
    requirements, done = peer.requirements.read_text("utf-8"), environment / ".done"
    if done.exists() and done.read_text("utf-8") == requirements:
        return f"{peer.version()} is installed"
    python = shutil.which(peer.python) if peer.python else getattr(sys, "_base_executable", sys.executable)
    if python is None:
        return f"failed: it needs {peer.python}, which does not exist"
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
    done.write_text(requirements, "utf-8")
    return f"{peer.version()} installed"


if __name__ == "__main__":
    main()
