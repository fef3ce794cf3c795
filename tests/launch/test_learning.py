"""`prelabel serve --learn`: what must be there at the start, and several worker processes on one file."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from typer.testing import CliRunner

import prelabel
from server.bundle import Bundle
from server.errors import BadSetting
from server.launch.launcher import check_startup
from server.learning.store import STORE
from server.settings import load_settings
from tests.conftest import ROOT

LEARN = ("serve", "--learn", "http://192.0.2.7:8080")

OPEN = """
import sys
from pathlib import Path
from server.learning.store import LearningStore
print("ready", flush=True)
sys.stdin.readline()
LearningStore(Path(sys.argv[1])).close()
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LEARN, "LABEL_STUDIO_API_KEY is not set"),
        ((*LEARN, "--on-ray"), "replicas on Ray share no folder"),
    ],
)
def test_the_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.setenv("PRELABEL_LEARN_FOLDER", str(tmp_path / "learned"))
    error = CliRunner().invoke(prelabel.app, options).exception
    assert isinstance(error, BadSetting)
    assert message in str(error)
    assert not list(tmp_path.iterdir())


def test_the_parent_makes_the_file_before_the_workers_open_it(bundle: Bundle, tmp_path: Path) -> None:
    learning = {"learn": "http://192.0.2.7:8080", "learn_folder": tmp_path / "learned"}
    settings = load_settings(bundle=(bundle.path,), device="cpu", workers=2, **learning)
    check_startup(settings, tmp_path, lambda registry: None)
    assert (tmp_path / "learned" / STORE).is_file()


def test_processes_may_make_the_file_at_the_same_time(tmp_path: Path) -> None:
    for number in range(5):
        command = [sys.executable, "-c", OPEN, str(tmp_path / f"{number}.sqlite")]
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate()[1] for process in processes] == [""] * 4
