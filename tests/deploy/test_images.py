"""The images, built from the Dockerfiles and run with the confinement of the Compose file.

Without Docker, the real base images and a GPU: see tests/deploy/images.py and docs/deployment.md.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from export.cnn import Network
from server.bundle import Bundle, read_bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.conftest import WORDS
from tests.deploy.images import CONFINED, NO_SYSTEMD, Images, missing, store
from tests.e2e.conftest import free_port, running

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(missing() != "", reason=f"images cannot be built here: {missing()}"),
]
PYTHON = "/opt/prelabel/bin/python"
LISTING = "cd $0 && find . -name '*.nb?' -printf '%P %s %T@\\n' | sort"
"""Name, size and modification time of numba's cache files; a recompiled one has another time."""
ROOM = 20e9
"""Bytes of the CUDA image, twice: for the build stage and for the serve stage."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with store(tmp_path_factory.mktemp("images")) as found:
        yield found


def serving(images: Images, image: str, name: str, port: int, *options: str) -> list[str]:
    loopback = ["--env", "PRELABEL_HOST=127.0.0.1", "--env", f"PRELABEL_PORT={port}"]
    return images.command("podman", "run", "--name", name, *CONFINED, *loopback, *options, image)


def test_serves_read_only_as_its_user(images: Images, tmp_path: Path) -> None:
    image = images.build("Dockerfile", "serve")
    config = json.loads(images.do("podman", "image", "inspect", image))[0]["Config"]
    assert config["Labels"]["org.opencontainers.image.revision"] == "tested"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(serving(images, image, "cpu", port), f"{url}/health", tmp_path / "server.log", NO_SYSTEMD):

        def inside(*words: str) -> str:
            return images.do("podman", "exec", "cpu", *words)

        images.do("podman", "healthcheck", "run", "cpu")
        tasks = {"tasks": [{"id": 1, "data": {"review": "a fine film"}}], "label_config": TUTORIAL_CONFIG}
        assert (
            len(httpx.post(f"{url}/predict", json=tasks, timeout=60).raise_for_status().json()["results"])
            == 1
        )
        kernels = inside("sh", "-c", LISTING, "/opt/kernels")
        assert ".nbc " in kernels
        cached = inside("sh", "-c", LISTING, "/tmp/kernels")  # noqa: S108
        assert cached == kernels, "the kernels of the image are used and none is compiled"
        assert inside("id") == "uid=10001(prelabel) gid=10001(prelabel) groups=10001(prelabel)"
        assert inside("stat", "--format", "%u:%g", "/tmp") == "10001:10001"  # noqa: S108
        status = dict(
            line.split(":\t")
            for line in inside("cat", "/proc/1/status").splitlines()
            if line.startswith(("Cap", "NoNew"))
        )
        assert status.pop("NoNewPrivs") == "1"
        assert {int(each, 16) for each in status.values()} == {0}
        for words in (
            ["touch", "/written"],
            ["touch", "/app/written"],
            [PYTHON, "-c", "import torch"],
            ["test", "-e", "artifacts/imdb-cnn/model.ts"],
        ):
            assert (
                subprocess.run(
                    images.command("podman", "exec", "cpu", *words), check=False, capture_output=True
                ).returncode
                == 1
            ), words
    assert images.do("podman", "inspect", "--format", "{{.State.ExitCode}}", "cpu") == "0", "SIGTERM ends it"


def test_the_export_stage_exports(images: Images, network: Network, bundle: Bundle, tmp_path: Path) -> None:
    image = images.build("Dockerfile", "export")
    torch.save(network.cnn.state_dict(), tmp_path / "cnn.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", "utf-8")
    for each in (tmp_path, *tmp_path.iterdir()):
        os.chown(each, 10001, 10001)
    words = ["export", "--checkpoint", "/work/cnn.pt", "--vocab", "/work/vocab.txt", "--out", "/work/tiny"]
    images.do("podman", "run", "--rm", *CONFINED, "--volume", f"{tmp_path}:/work", image, *words)
    assert read_bundle(tmp_path / "tiny").version == bundle.version
    assert (tmp_path / "tiny").stat().st_uid == 10001


def test_the_cuda_image_without_a_gpu(images: Images, tmp_path: Path) -> None:
    """Downloads 2 GB of wheels."""
    if shutil.disk_usage(images.folder).free < ROOM:
        pytest.skip(f"the images need {ROOM / 1e9:.0f} GB on {images.folder}")
    image = images.build("Dockerfile.cuda", "serve")
    port = free_port()
    refused = subprocess.run(
        serving(images, image, "cuda", port, "--env", "PRELABEL_DEVICE=cuda"),
        env=os.environ | NO_SYSTEMD,
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert "device=cuda, but" in refused.stderr
    with running(
        serving(images, image, "auto", port),
        f"http://127.0.0.1:{port}/health",
        tmp_path / "server.log",
        NO_SYSTEMD,
    ):
        images.do("podman", "healthcheck", "run", "auto")
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).json()["degraded"] is True
    assert images.do("podman", "inspect", "--format", "{{.State.ExitCode}}", "auto") == "0", "SIGTERM ends it"
