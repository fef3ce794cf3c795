"""Starts a peer's server for the duration of a block; every process that it started ends with it. Runs the
program that measures it.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.peer_list import Peer
from benchmarks.peers.plan import Measurement, Plan
from tests.e2e.conftest import ROOT, free_port

START_SECONDS = 120.0
END_SECONDS = 10.0

CLIENT_SECONDS = 300
"""Timeout of a measurement."""

QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
"""No usage reports, and no proxy for loopback."""

MARK = "PRELABEL_PEER"
"""An environment variable of the server and its children, to find those that left its process group."""


class PeerFailed(Exception):
    """The reason in one sentence."""


def measured(command: Sequence[str], plan: Plan, variables: Mapping[str, str]) -> Measurement:
    """What a program measures that takes a plan. Raises PeerFailed."""
    try:
        done = subprocess.run(  # noqa: S603 - a program of this folder
            command,
            cwd=ROOT,
            input=plan.to_json(),
            capture_output=True,
            env=variables,
            timeout=CLIENT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"not measured within {CLIENT_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PeerFailed((lines or ["the client ended without an error message"])[-1][:300])
    return Measurement(**json.loads(done.stdout))


@contextmanager
def serving(peer: Peer, folder: Path, bundle: Path) -> Iterator[int]:
    """The port of the peer's server, which serves the model in `folder`. Raises PeerFailed."""
    port, mark, log = free_port(), uuid.uuid4().hex, folder / f"{peer.name}.log"
    fields = {
        "python": peer.interpreter,
        "bin": peer.interpreter.parent,
        "port": port,
        "bundle": bundle,
        "folder": folder,
    }
    command = [word.format(**fields) for word in peer.command]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a command of peer_list
            command,
            cwd=ROOT,
            env=environment(peer, folder, port, mark),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            wait_until_ready(peer, process, port, log)
            yield port
        finally:
            process.terminate()
            end_all(process, mark)


def environment(peer: Peer, folder: Path, port: int, mark: str) -> dict[str, str]:
    """The environment variables of this process without its virtual environment, and those of the server."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONHOME") and not name.startswith("PRELABEL_")
    }
    path = f"{peer.interpreter.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return (
        ours
        | {
            "PEER_MODEL": str(folder),
            "PEER_PORT": str(port),
            MARK: mark,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
        }
        | QUIET
    )


def wait_until_ready(peer: Peer, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PeerFailed(
                    f"the server ended with status {process.returncode} before it was ready: "
                    f"{last_error(log)}"
                )
            try:
                if client.get(f"http://127.0.0.1:{port}{peer.health}").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise PeerFailed(f"the server was not ready within {START_SECONDS:.0f} s: {last_error(log)}")


def end_all(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Wait for the terminated server and all processes with its mark; kill those that do not end in time."""
    deadline = time.monotonic() + END_SECONDS
    psutil.wait_procs(marked(mark), timeout=END_SECONDS)
    # the rest does not end by itself, or started meanwhile
    while (left := marked(mark)) and time.monotonic() < deadline + END_SECONDS:
        for each in left:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)
    process.wait()


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get(MARK) == mark:
                found.append(each)
        except psutil.Error:  # it ended meanwhile, or belongs to another user
            continue
    return found


def last_error(log: Path) -> str:
    """The last line that contains an error, or else the last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line] or lines
    return errors[-1][:300] if errors else "its log is empty"
