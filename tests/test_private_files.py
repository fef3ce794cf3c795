"""What is written of users' texts is for their owner alone, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.run import Run
from server.bulk import Labeler, predict_file
from server.bundle import Bundle
from server.classifier import open_classifier
from server.label_studio.config import TUTORIAL_CONFIG, read_plan
from server.private_files import private
from server.settings import load_settings
from tests.conftest import tiny_network
from tests.e2e.conftest import serving


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_from_the_moment_it_is_made_and_where_it_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with open(file, "wb", opener=private):
        assert mode(file) == 0o600
    file.chmod(0o666)
    with open(file, "r+b", opener=private):
        assert mode(file) == 0o600


def test_predict(bundle: Bundle, tmp_path: Path) -> None:
    rows = 3000  # more than one chunk, so that something is seen on the way
    (tmp_path / "in.jsonl").write_text('{"review": "good film"}\n' * rows)
    seen: dict[str, int] = {}

    def look(_: int, __: int) -> None:
        seen.update({path.name: mode(path) for path in tmp_path.iterdir() if path.name.startswith("out")})

    with open_classifier(load_settings(bundle=(bundle.path,), device="cpu")) as classifier:
        labeler = Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))
        predict_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", labeler, on_progress=look)
    assert seen == {"out.jsonl.part": 0o600, "out.jsonl.part.progress": 0o600}
    assert mode(tmp_path / "out.jsonl") == 0o600


def test_the_state_of_a_training(tmp_path: Path) -> None:
    Run.start(tiny_network().cnn, torch.zeros(1, 2)).save(tmp_path / "state", "key")
    assert mode(tmp_path / "state") == 0o600
    assert Run.load(tmp_path / "state", "key") is not None


def test_the_folder_of_the_workers(bundle: Bundle, tmp_path: Path) -> None:
    """It holds projects' names and wishes."""
    with serving(
        bundle.path, tmp_path / "log", "--device", "cpu", "--workers", "2", settings={"TMPDIR": str(tmp_path)}
    ):
        (folder,) = tmp_path.glob("prelabel-*")
        assert any(folder.iterdir())
        assert mode(folder) == 0o700
    assert not list(tmp_path.glob("prelabel-*"))
