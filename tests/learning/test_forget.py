"""`prelabel forget`: what is deleted, and what it says."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

import prelabel
from server.errors import BadInput
from server.learning.annotations import Annotation
from server.learning.forget import models_of
from server.learning.store import STORE, LearningProject, LearningStore

TIME = "2026-01-01T10:00:00.000000+00:00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two projects; the first has a model."""
    with LearningStore(tmp_path / STORE) as store:
        for project in (7, 8):
            store.set_up(LearningProject(project, "films", f"{project}.1", "<View/>"))
            found = [Annotation(number, number, 1, "private", ("a",), TIME) for number in (1, 2)]
            store.receive(project, found)
        store.add_round(7, {"accepted": True})
    bundle = models_of(tmp_path, 7) / "films-p7-1"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    return tmp_path


def forget(folder: Path, *options: str, answer: str = "") -> str:
    command = ["forget", "--folder", str(folder), *options]
    done = CliRunner().invoke(prelabel.app, command, input=answer)
    if isinstance(done.exception, BadInput):
        return str(done.exception)
    return done.output


def counts(folder: Path) -> tuple[int, int]:
    with LearningStore(folder / STORE) as store:
        return store.count(7), store.count(8)


def test_all_of_a_project_is_deleted(folder: Path) -> None:
    output = forget(folder, "--project", "7", "--yes")
    assert "Deleted 2 annotations, 1 round, 1 model of project 7." in output
    assert "--no-learn" in output
    assert counts(folder) == (0, 2)
    assert not models_of(folder, 7).exists()
    assert "nothing is kept of it; the projects are: 8." in forget(folder, "--project", "7", "--yes")


def test_it_asks_before_it_deletes(folder: Path) -> None:
    question = "Delete 2 annotations, 1 round, 1 model of project 7? [y/N]"
    refused = forget(folder, "--project", "7", answer="n\n")
    assert question in refused
    assert "Nothing was deleted." in refused
    assert "Aborted" in forget(folder, "--project", "7")
    assert (counts(folder), models_of(folder, 7).exists()) == ((2, 2), True)
    assert "Deleted" in forget(folder, "--project", "7", answer="y\n")
    assert counts(folder) == (0, 2)


def test_a_folder_without_the_file_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    assert "does not exist; give the folder" in forget(tmp_path, "--project", "7", "--yes")
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_deleted_are_named(folder: Path) -> None:
    models = models_of(folder, 7)
    target = folder / "elsewhere"
    models.rename(target)
    models.symlink_to(target)
    assert f"{models}: cannot be deleted" in forget(folder, "--project", "7", "--yes")
    assert (counts(folder), target.exists()) == ((0, 2), True)
    assert stat.S_IMODE((folder / STORE).stat().st_mode) == 0o600
