"""The peers in one table: how each is started and requested, and its settings, the best of a few on two
cores.
"""

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.models import MODELS
from benchmarks.peers.protocols import LABEL_STUDIO, LABEL_STUDIO_RELOAD, OPEN_INFERENCE, TEXTS, Protocol
from benchmarks.results import ROOT

ENVIRONMENTS = Path(os.environ.get("PEER_ENVIRONMENTS") or ROOT / ".venv" / "peers")
REQUIREMENTS = ROOT / "benchmarks" / "peers" / "requirements"

SERVE = "benchmarks.peers.serve"


@dataclass(frozen=True)
class Peer:
    """`command` runs in the checkout, with {python}, {bin}, {port}, {bundle} and {folder} filled in; it is
    empty if there is no server.

    `package` is the package whose version is shown; without one the peer is Prelabel's own and runs in this
    environment. A peer with its own model (`models` is empty) is measured once and stands in every table.
    `python` is the interpreter that the package needs, if it needs a special one. `home` names the
    environment and its requirements, if several peers share one or if a peer of another list has its name.
    """

    name: str
    protocol: Protocol
    settings: str
    command: tuple[str, ...] = ()
    path: str = "/predict"
    health: str = "/health"
    package: str = ""
    models: tuple[str, ...] = MODELS
    python: str = ""
    home: str = ""

    @property
    def environment(self) -> Path | None:
        return ENVIRONMENTS / (self.home or self.name) if self.package else None

    @property
    def interpreter(self) -> Path:
        return self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.home or self.name}.txt"

    def ready(self) -> bool:
        return self.environment is None or (self.environment / ".done").exists()

    def version(self) -> str:
        if self.environment is None:
            return importlib.metadata.version("prelabel" if self.command else "onnxruntime")
        folders = [str(folder) for folder in self.environment.glob("lib/python*/site-packages")]
        return next(
            found.version for found in importlib.metadata.distributions(name=self.package, path=folders)
        )


GUNICORN = ("{bin}/gunicorn", "--preload", "--bind", "127.0.0.1:{port}", "--timeout", "0")

PEERS = (
    Peer(
        "prelabel",
        LABEL_STUDIO,
        "defaults",
        ("{python}", "prelabel.py", "serve", "--bundle", "{bundle}", "--port", "{port}"),
        models=(),
    ),
    Peer("inprocess", TEXTS, "ONNX Runtime called in a loop, two texts at a time, no server"),
    Peer(
        "sdk_tutorial",
        LABEL_STUDIO_RELOAD,
        "torch, model built for each request, one text after another; gunicorn, 1 process, 8 threads",
        (*GUNICORN, "--workers", "1", "--threads", "8", f"{SERVE}.sdk_tutorial:app"),
        package="label-studio-ml",
        models=("conv",),
    ),
    Peer(
        "sdk_fair",
        LABEL_STUDIO,
        "one session, two texts at a time; gunicorn, 1 process, 8 threads",
        (*GUNICORN, "--workers", "1", "--threads", "8", f"{SERVE}.sdk_fair:app"),
        package="label-studio-ml",
    ),
    Peer(
        "mosec",
        TEXTS,
        "2 processes, two texts at a time, no batches",
        (
            "{python}",
            "-m",
            f"{SERVE}.mosec",
            "--address",
            "127.0.0.1",
            "--port",
            "{port}",
            "--timeout",
            "60000",
        ),
        path="/inference",
        health="/",
        package="mosec",
    ),
    Peer(
        "litserve",
        TEXTS,
        "2 processes, two texts at a time, no batches",
        ("{python}", "-m", f"{SERVE}.litserve"),
        package="litserve",
    ),
    Peer(
        "bentoml",
        TEXTS,
        "2 processes, two texts at a time, adaptive batches",
        ("{bin}/bentoml", "serve", f"{SERVE}.bentoml:Classifier", "--host", "127.0.0.1", "--port", "{port}"),
        health="/readyz",
        package="bentoml",
    ),
    Peer(
        "mlserver",
        OPEN_INFERENCE,
        "in the server's process, two texts at a time, no batches",
        ("{python}", "-m", f"{SERVE}.mlserver"),
        path="/v2/models/network/infer",
        health="/v2/models/network/ready",
        package="mlserver",
    ),
    Peer(
        "triton",
        OPEN_INFERENCE,
        "two texts at a time, batches of up to 128 texts",
        ("{python}", "-m", f"{SERVE}.triton"),
        path="/v2/models/network/infer",
        health="/v2/models/network/ready",
        package="nvidia-pytriton",
        # the server brings its own interpreter and uses the standard library of this one: their versions must
        # match, as Debian's does
        python="/usr/bin/python3.11",
    ),
    Peer(
        "rayserve",
        TEXTS,
        "1 replica, two texts at a time, no batches",
        ("{python}", "-m", f"{SERVE}.rayserve"),
        path="/",
        health="/-/healthz",
        package="ray",
    ),
)
