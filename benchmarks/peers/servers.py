"""A peer's server for as long as a block lasts; whatever it started ends with it."""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.catalogue import Peer
from tests.e2e.conftest import ROOT, free_port

START_SECONDS = 120.0
END_SECONDS = 10.0

QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
"""Nothing is told to anyone, nor asked through a proxy."""

MARK = "PRELABEL_PEER"
"""In the environment of a server and all that it starts, to find those that left its process group."""


class PeerFailed(Exception):
    """Told in one sentence."""


@contextmanager
def serving(peer: Peer, folder: Path, bundle: Path) -> Iterator[int]:
    """The port of the peer's server, which has the model in `folder`. Raises PeerFailed."""
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
        process = subprocess.Popen(  # noqa: S603 - a command of the catalogue
            command,
            cwd=ROOT,
            env=environment(peer, folder, port, mark),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            wait_until_up(peer, process, port, log)
            yield port
        finally:
            process.terminate()
            end_all(process, mark)


def environment(peer: Peer, folder: Path, port: int, mark: str) -> dict[str, str]:
    """Ours without the virtual environment we run in, and what servers are told by it."""
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


def wait_until_up(peer: Peer, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PeerFailed(
                    f"the server ended with status {process.returncode} before it was up: {last_words(log)}"
                )
            try:
                if client.get(f"http://127.0.0.1:{port}{peer.health}").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise PeerFailed(f"the server was not up within {START_SECONDS:.0f} s: {last_words(log)}")


def end_all(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """The server, which was asked to end, and all that bear its mark; those that do not end in time are
    killed.
    """
    deadline = time.monotonic() + END_SECONDS
    psutil.wait_procs(marked(mark), timeout=END_SECONDS)
    # what is left does not end by itself, or came meanwhile
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
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def last_words(log: Path) -> str:
    """The last line that tells of an error, else the last of all."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line] or lines
    return told[-1][:300] if told else "it wrote nothing"
