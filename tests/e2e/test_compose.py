"""The Compose files without Docker: their services with the same environment, secrets, volumes and start
order, and the commands of docs/deployment.md.

Features of containers are missing: images (this environment's packages are used), user 10001, the read-only
root file system, and networks. Each service listens on a free port of 127.0.0.1. names/sitecustomize.py
resolves the names of Compose, such as http://prelabel:9090 and http://label-studio:8080, and Label Studio
cannot open other connections. A fake `docker` serves `make up-cpu` and `docker compose exec`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bundle import read_bundle
from tests.deploy import compose, test_compose
from tests.e2e import containers
from tests.e2e.conftest import ROOT, free_port, tail

pytestmark = pytest.mark.e2e

DOC = ROOT / "docs/deployment.md"
REVIEWS = [
    f"Review {i}: {words}"
    for i, words in enumerate(("a great film.", "an awful film.", "it was dull.", "lovely actors.") * 10)
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with Prelabel's image."""
    folder = tmp_path_factory.mktemp("prelabel")
    containers.build(ROOT / "Dockerfile", folder / "root")
    return folder / "root"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after `make up` and `make up-cpu`, with a `docker` that does nothing: both create the
    secrets.
    """
    folder = tmp_path_factory.mktemp("host")
    done = test_compose.up(folder, "cpu", docker='echo "$@"')
    assert done.returncode == 0, done.stderr
    assert re.findall(r"--file (\S+)", done.stdout) == ["docker-compose.yml"]
    for path in test_compose.FILES:
        shutil.copy(path, folder)
    (folder / "artifacts").symlink_to(ROOT / "artifacts")
    return folder


def test_the_deployment_guide(host: Path, root: Path, tmp_path: Path) -> None:
    services = compose.read(host / "docker-compose.yml")
    assert list(services) == ["prelabel", "label-studio"]
    ports = containers.free_ports(services)
    own = [
        containers.prelabel(services["prelabel"], root, ports),
        containers.label_studio(services["label-studio"], tmp_path / "studio", ports),
    ]
    version = read_bundle(ROOT / "artifacts/imdb-cnn").version

    with containers.up(own):
        with httpx.Client(
            base_url=f"http://127.0.0.1:{ports['label-studio']}", timeout=60, trust_env=False
        ) as studio:
            key = sign_up(studio)
            project = ok(
                studio.post("/api/projects", json={"title": "Reviews", "label_config": labeling_config()})
            )["id"]
            assert project == 1, "the project that the guide's commands name"
            ok(studio.post(f"/api/projects/{project}/import", json=[{"review": text} for text in REVIEWS]))

            done = as_documented(key, own, tmp_path)

            assert done.returncode == 0, done.stdout + done.stderr
            assert "✗" not in done.stdout, done.stdout
            assert key not in done.stdout + done.stderr
            [row] = ok(studio.get("/api/ml", params={"project": project}))
            assert (row["url"], row["state"], row["title"]) == ("http://prelabel:9090", "CO", version)
            found = ok(studio.get("/api/predictions", params={"project": project}))
            assert Counter(each["model_version"] for each in found) == {version: len(REVIEWS)}
            assert len({each["task"] for each in found}) == len(REVIEWS)
            tasks = ok(studio.get("/api/tasks", params={"project": project, "fields": "all"}))["tasks"]
            assert all(task["predictions_score"] is not None for task in tasks)

            # the prediction of the next task comes from the server itself
            ok(studio.post(f"/api/projects/{project}/import", json=[{"review": "One more: a great film."}]))
            latest = max(
                task["id"]
                for task in ok(studio.get("/api/tasks", params={"project": project, "fields": "all"}))[
                    "tasks"
                ]
            )
            assert [
                each["model_version"] for each in ok(studio.get(f"/api/tasks/{latest}"))["predictions"]
            ] == [version]

        with httpx.Client(
            base_url=f"http://127.0.0.1:{ports['prelabel']}", timeout=60, trust_env=False
        ) as server:
            token = (host / "deploy/secrets/admin_token").read_text()
            assert server.post("/admin/reload").status_code == 401
            ok(server.post("/admin/reload", headers={"Authorization": f"Bearer {token}"}))
        assert token not in own[0].log.read_text()

    assert own[0].status == 0, tail(own[0].log)
    assert own[1].status is not None, "Label Studio, too, ended within its grace period"


def test_the_gpu_file_starts_on_a_gpu_or_not_at_all(host: Path, root: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    services = compose.read(host / "docker-compose.yml", host / "docker-compose.gpu.yml")
    prelabel = containers.prelabel(services["prelabel"], root, {"prelabel": free_port()})
    done = subprocess.run(
        prelabel.command,
        cwd=prelabel.folder,
        env=dict(prelabel.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert "device=cuda" in line, line


def test_the_rest_of_the_gpu_file_and_a_custom_bundle(host: Path, root: Path) -> None:
    files = host / "docker-compose.yml", host / "docker-compose.gpu.yml"
    service = compose.read(*files, variables={"PRELABEL_BUNDLE": "/bundles/imdb-cnn"})["prelabel"]
    assert (service.image, service.dockerfile) == ("prelabel:cuda", "Dockerfile.cuda")
    port = free_port()
    prelabel = containers.prelabel(service, root, {"prelabel": port})
    prelabel.environment = dict(prelabel.environment) | {"PRELABEL_DEVICE": "cpu"}
    with (
        containers.up([prelabel]),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as server,
    ):
        assert ok(server.get("/health"))["model_version"] == read_bundle(ROOT / "artifacts/imdb-cnn").version
    assert prelabel.status == 0, tail(prelabel.log)


def as_documented(
    key: str, own: list[containers.Container], folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Run the guide's block of commands, from the key on, in a shell."""
    [block] = re.findall(r"```sh\n(.*?make up .*?)```", DOC.read_text(), re.DOTALL)
    exported, commands = re.search(
        r"^export (LABEL_STUDIO_API_KEY)=.*?\n(.*)", block, re.DOTALL | re.MULTILINE
    ).groups()  # type: ignore[union-attr]
    programs = folder / "bin"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.e2e.stand_in_docker "$@"\n'
    )
    docker.chmod(0o755)
    (folder / "containers.json").write_text(containers.as_json(own))
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CONTAINERS": str(folder / "containers.json"),
        exported: key,
    }
    return subprocess.run(
        ["/bin/sh", "-e", "-c", commands],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def sign_up(studio: httpx.Client) -> str:
    """Create the first account and its personal access token, as in the browser."""
    page = studio.get("/user/signup/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    form = {
        "csrfmiddlewaretoken": token[1],
        "email": "first@example.com",
        "password": "correct horse battery",
    }
    signed = studio.post("/user/signup/", data=form)
    assert signed.status_code == 302, signed.text
    studio.headers["X-CSRFToken"] = studio.cookies["csrftoken"]
    legacy = ok(studio.get("/api/current-user/token"))["token"]
    refused = httpx.get(
        studio.base_url.join("/api/projects"), headers={"Authorization": f"Token {legacy}"}, trust_env=False
    )
    assert refused.status_code == 401, "a new Label Studio takes no legacy tokens, as the guide says"
    key: str = ok(studio.post("/api/token/"))["token"]
    return key


def labeling_config() -> str:
    """The README's."""
    [found] = re.findall(r"```xml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(found)


def ok(response: httpx.Response) -> Any:
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    )
    return response.json()
