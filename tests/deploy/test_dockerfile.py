"""The Dockerfiles: identical stages, linted, and their steps executed in a scratch folder without a
container.

python -m pytest tests/deploy -m deploy
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import own, read
from tests.deploy.scratch import execute, inside
from tests.e2e.conftest import ROOT, free_port, running

FILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]
NOT_EXECUTED = {
    "base": "needs root: see test_images.py",
    "export": "downloads torch: see test_images.py",
}


def test_both_have_the_same_stages() -> None:
    def shared(path: Path) -> str:
        return path.read_text().split("# From here on", 1)[1]

    assert shared(FILES[0]) == shared(FILES[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_image(path: Path) -> None:
    base = own(path, "ARG", "")[0]
    assert ":" in base
    assert not base.endswith(":latest")
    assert own(path, "USER", "serve") == ["10001:10001"]
    assert "healthcheck.py" in own(path, "HEALTHCHECK", "serve")[0]
    assert all(
        "export" not in each and "torch" not in each
        for stage in ("build", "serve")
        for each in own(path, "RUN", stage)
    )
    assert read(path)[-1].stage == "serve", "the last stage is what is built without --target"


def test_the_cuda_base_matches_the_wheels_cuda() -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert "onnxruntime-gpu==1.31.1" in pinned, (
        "another version may be for another CUDA: check the base in Dockerfile.cuda"
    )
    assert own(FILES[1], "ARG", "")[0].startswith("BASE=nvidia/cuda:13.")


def test_version_label_is_the_projects() -> None:
    version = next(
        line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version")
    )
    assert version.split(" = ")[1] in own(FILES[0], "LABEL")[0]


def test_copied_files_are_not_ignored() -> None:
    let_through = {
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for words in own(FILES[0], "COPY"):
        if not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in let_through


@pytest.mark.deploy
def test_steps_executed_in_a_scratch_folder(tmp_path: Path) -> None:
    """The stages build and serve, as this user, on this system, with this Python and ONNX Runtime for the
    CPU.
    """
    steps = read(FILES[0])
    folder = ROOT
    for step in steps:
        if step.stage in NOT_EXECUTED:
            continue
        folder = execute(step, folder, tmp_path)
    kernels = listing(tmp_path / "opt/kernels")
    assert any(name.endswith(".nbc") for name in kernels)

    settings = dict(
        each.split("=") for words in own(FILES[0], "ENV", "serve") for each in inside(words, tmp_path).split()
    )
    port = free_port()
    settings |= {"PRELABEL_HOST": "127.0.0.1", "PRELABEL_PORT": str(port), "PRELABEL_ENGINE": "tables"}
    start = tmp_path / "opt/deploy/start.sh"
    start.write_text(inside(start.read_text(), tmp_path))
    command = ["/bin/sh", "-c", f"cd {tmp_path}/app && exec /bin/sh {start} serve"]
    check = [tmp_path / "opt/prelabel/bin/python", tmp_path / "opt/deploy/healthcheck.py"]
    with running(command, f"http://127.0.0.1:{port}/health", tmp_path / "server.log", settings):
        assert subprocess.run(check, env=os.environ | settings, check=False).returncode == 0
        assert listing(Path(settings["NUMBA_CACHE_DIR"])) == kernels, (
            "the kernels of the image are used and none is compiled"
        )
    assert subprocess.run(check, env=os.environ | settings, check=False).returncode == 1
    assert subprocess.run([check[0], "-c", "import torch"], check=False, capture_output=True).returncode != 0


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of numba's cache files; a recompiled one has another time."""
    return {
        str(each.relative_to(folder)): (each.stat().st_size, each.stat().st_mtime_ns)
        for each in sorted(folder.rglob("*.nb?"))
    }


@pytest.mark.deploy
def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run(
        [hadolint, "--format", "json", *FILES], check=False, capture_output=True, text=True
    )
    assert json.loads(found.stdout) == []
