"""A real Label Studio and a real `prelabel serve`, each started once for all end-to-end tests.

LABEL_STUDIO_BIN names Label Studio's executable, PRELABEL_E2E_BUNDLE the bundle (`artifacts/imdb-cnn` without
it). Both listen on free loopback ports and end with the tests; Label Studio keeps its data in a temporary
folder.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from tests.ports import PLAIN_HTTP, reserved_port

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT.parent / "shared" / "tutorial"
USER = "e2e@example.com"
START_SECONDS = 300.0
"""The first start of Label Studio creates its database: about 200 migrations."""


@pytest.fixture(scope="session")
def tutorial() -> Path:
    """The folder with the tutorial's reviews and labeling config."""
    if not TUTORIAL.is_dir():
        pytest.skip("the tutorial's data is missing: no folder shared/tutorial next to the repository")
    return TUTORIAL


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The folder of the bundle under test."""
    return ROOT / os.environ.get("PRELABEL_E2E_BUNDLE", "artifacts/imdb-cnn")


@pytest.fixture(scope="session")
def studio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `studio` keeps its data."""
    return tmp_path_factory.mktemp("label-studio")


@pytest.fixture(scope="session")
def studio(studio_folder: Path) -> Iterator[httpx.Client]:
    """A client of Label Studio's API, logged in as its only user."""
    # without it Label Studio refuses a backend on 127.0.0.1
    with label_studio(
        studio_folder, secrets.token_hex(20), {"LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "False"}
    ) as client:
        yield client


@contextmanager
def label_studio(
    folder: Path, token: str, settings: Mapping[str, str], *, password: str | None = None
) -> Iterator[httpx.Client]:
    """Run Label Studio with its data in `folder`; yields a client of its API for its only user.

    A new folder creates the user with this token and password; without one the password is random.
    """
    executable = os.environ.get("LABEL_STUDIO_BIN")
    if not executable:
        pytest.skip("LABEL_STUDIO_BIN is not set: it names Label Studio's executable (make e2e sets it)")
    port = free_port()
    command = [
        *(str(ROOT / executable), "start", "--no-browser", "--init", "--data-dir", str(folder)),
        *("--internal-host", "127.0.0.1", "--port", str(port)),
        *("--username", USER, "--password", password or secrets.token_hex(20)),
        *("--user-token", token, "--enable-legacy-api-token"),
    ]
    usual = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_DJANGO_DB": "sqlite",
        "LABEL_STUDIO_HOST": "",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "False",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "False",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Token {token}"}
    with (
        running(command, f"{url}/health/", folder / "server.log", usual | dict(settings)),
        httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def backend(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `prelabel serve`; its base URL is what Label Studio is given."""
    with serving(bundle, tmp_path_factory.mktemp("backend") / "server.log") as client:
        yield client


@contextmanager
def serving(
    bundle: Path,
    log: Path,
    *options: str,
    port: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[httpx.Client]:
    """Run `prelabel serve` with these options and environment variables; a client of it."""
    port = port or reserved_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "prelabel.py", "serve", "--bundle", str(bundle), "--port", str(port), *options]
    with (
        running(command, f"{url}/health", log, settings),
        httpx.Client(base_url=url, timeout=120, trust_env=False, verify=PLAIN_HTTP) as client,
    ):
        yield client


@contextmanager
def running(command: Sequence[str], health: str, log: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Run a server until the block ends; the block begins when `health` answers 200."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until_up(process, health, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_up(process: "subprocess.Popen[bytes]", health: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5, trust_env=False, verify=PLAIN_HTTP) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                pytest.fail(f"{process.args!r} ended with status {process.returncode}:\n{tail(log)}")
            try:
                if client.get(health).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    pytest.fail(f"{health} did not answer within {START_SECONDS:.0f} s:\n{tail(log)}")


def tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-4000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
