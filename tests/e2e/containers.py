"""Runs the services of the Compose files as processes on loopback: the same commands and environment, with a
folder for each container.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

from tests.deploy.compose import Service
from tests.deploy.dockerfile import own, read
from tests.deploy.scratch import execute, inside
from tests.e2e.conftest import ROOT, START_SECONDS, free_port, tail

NAMES = Path(__file__).with_name("names")
"""The folder of the name service."""


@dataclass
class Container:
    """A process instead of a container, with the root file system `root`. Paths in `command` and `check` are
    this machine's.
    """

    service: Service
    root: Path
    folder: Path
    command: Sequence[str]
    check: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    status: int | None = field(default=None, init=False)
    """Exit status; None while it runs or if it had to be killed."""


def build(dockerfile: Path, root: Path) -> None:
    """Build the stage `serve` below `root`, with this environment's packages and with kernels compiled as in
    the stage `build`.
    """
    (root / "tmp").mkdir(parents=True)
    (root / "opt").mkdir()
    (root / "opt/prelabel").symlink_to(sys.prefix)
    folder = root
    for step in read(dockerfile):
        if step.stage == "build" and step.name == "RUN" and "NUMBA_CACHE_DIR" in step.words:
            execute(step, ROOT, root)
        if step.stage == "serve" and not step.words.startswith("--from"):
            folder = execute(step, folder, root)
    start = root / "opt/deploy/start.sh"
    start.write_text(inside(start.read_text(), root))


def prelabel(service: Service, root: Path, ports: Mapping[str, int]) -> Container:
    """The container of an image that was built below `root`."""
    dockerfile = ROOT / service.dockerfile
    image = dict(each.split("=", 1) for words in own(dockerfile, "ENV", "serve") for each in words.split())
    local = {"PRELABEL_HOST": "127.0.0.1", "PRELABEL_PORT": str(ports["prelabel"])}
    command = [
        word for name in ("ENTRYPOINT", "CMD") for word in json.loads(own(dockerfile, name, "serve")[0])
    ]
    check = json.loads(own(dockerfile, "HEALTHCHECK", "serve")[0].partition("CMD ")[2])
    return container(
        service, root, root / own(dockerfile, "WORKDIR", "serve")[0][1:], command, check, image, local, ports
    )


def label_studio(service: Service, root: Path, ports: Mapping[str, int]) -> Container:
    """`label-studio`, started as in its image, with its data in /label-studio/data and without calls to the
    internet.
    """
    executable = os.environ.get("LABEL_STUDIO_BIN")
    if not executable:
        pytest.skip("LABEL_STUDIO_BIN is not set: it names Label Studio's executable (make e2e sets it)")
    program = (ROOT / executable).resolve()
    (root / "label-studio").mkdir(parents=True)
    image = {
        "LABEL_STUDIO_BASE_DATA_DIR": "/label-studio/data",
        "DJANGO_SETTINGS_MODULE": "core.settings.label_studio",
        "HOME": "/label-studio",
    }
    local = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PORT": str(ports["label-studio"]),
        "LATEST_VERSION_CHECK": "False",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    # by name: `inside` would move the path of a checkout below /tmp into the container
    command = [program.name, "--internal-host", "127.0.0.1"]
    return container(service, root, root / "label-studio", command, service.check, image, local, ports)


def container(
    service: Service,
    root: Path,
    folder: Path,
    command: Sequence[str],
    check: Sequence[str],
    image: Mapping[str, str],
    local: Mapping[str, str],
    ports: Mapping[str, int],
) -> Container:
    """`image`: environment of the image; `local`: environment of this machine, which takes precedence."""
    mount(service, root)
    container_ports = {"prelabel": 9090, "label-studio": 8080}
    names = {
        f"{host}:{container_ports[name]}": port
        for name, port in ports.items()
        for host in (name, "127.0.0.1")
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PRELABEL_", "LABEL_STUDIO_"))
    }
    own_network = {"PYTHONPATH": str(NAMES), "NAMES": json.dumps(names), "NO_PROXY": "*", "no_proxy": "*"}
    given = {
        name: inside(str(value), root) for name, value in (dict(image) | dict(service.environment)).items()
    }
    environment = inherited | given | own_network | dict(local)
    return Container(
        service,
        root,
        folder,
        [inside(word, root) for word in command],
        [inside(word, root) for word in check],
        environment,
        root / "log",
    )


def mount(service: Service, root: Path) -> None:
    """Mount secrets and volumes below `root`."""
    for target, source in service.secrets.items():
        path = root / target[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(source)
    for target, folder in service.volumes.items():
        path = root / target[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder is None:
            path.mkdir()
        elif not path.is_symlink():
            path.symlink_to(folder.resolve())


@contextmanager
def up(containers: Sequence[Container]) -> Iterator[None]:
    """Run the containers. Each starts when the one before is healthy; they stop in reverse order, as in
    Compose.
    """
    with ExitStack() as stack:
        for each in containers:
            process = stack.enter_context(running(each))
            wait_until_healthy(each, process)
        yield


@contextmanager
def running(container: Container) -> "Iterator[subprocess.Popen[bytes]]":
    with (
        container.log.open("wb") as log,
        subprocess.Popen(
            container.command,
            cwd=container.folder,
            env=dict(container.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                container.status = process.wait(timeout=container.service.grace)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_healthy(container: Container, process: "subprocess.Popen[bytes]") -> None:
    """Poll its own health check."""
    deadline = monotonic() + START_SECONDS
    while (
        subprocess.run(
            container.check,
            env=dict(container.environment),
            cwd=container.folder,
            check=False,
            capture_output=True,
        ).returncode
        != 0
    ):
        if monotonic() > deadline:
            pytest.fail(
                f"{container.service.name} is not healthy after {START_SECONDS:.0f} s:\n{tail(container.log)}"
            )
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(
            f"{container.service.name} ended with status {process.returncode}:\n{tail(container.log)}"
        )


def free_ports(services: Mapping[str, Service]) -> dict[str, int]:
    return {name: free_port() for name in services}


def as_json(containers: Sequence[Container]) -> str:
    """The containers for tests/e2e/stand_in_docker.py."""
    return json.dumps(
        {
            each.service.name: {
                "root": str(each.root),
                "folder": str(each.folder),
                "environment": dict(each.environment),
            }
            for each in containers
        }
    )
