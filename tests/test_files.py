"""Files: private whatever the umask, replaced as a whole, and secrets from files by one rule."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.training.state import Run
from server.bundle import Bundle
from server.errors import BadSetting
from server.files import atomic_write, private_opener, read_secret
from server.label_studio.credentials import BasicAuth, basic_auth, token
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.settings import SECRETS, load_settings
from tests.conftest import tiny_network
from tests.e2e.conftest import serving


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_private_from_the_start_and_if_it_existed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with open(file, "wb", opener=private_opener):
        assert mode(file) == 0o600
    file.chmod(0o666)
    with open(file, "r+b", opener=private_opener):
        assert mode(file) == 0o600


def test_an_atomic_write_is_private_and_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    (tmp_path / "file.new").write_bytes(b"left over from a killed process")
    with atomic_write(file) as new:
        new.write(b"new")
        new.flush()
        assert file.read_bytes() == b"old"
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(file) as new:
            new.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_files_of_predict_are_private(bundle: Bundle, tmp_path: Path) -> None:
    rows = 3000  # more than one chunk, so that files are seen before the end
    (tmp_path / "in.jsonl").write_text('{"review": "good film"}\n' * rows)
    seen: dict[str, int] = {}

    def look(_: int, __: int) -> None:
        seen.update({path.name: mode(path) for path in tmp_path.iterdir() if path.name.startswith("out")})

    with open_classifier(load_settings(bundle=(bundle.path,), device="cpu")) as classifier:
        labeler = Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))
        predict_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", labeler, on_progress=look)
    assert seen == {"out.jsonl.part": 0o600, "out.jsonl.part.progress": 0o600}
    assert mode(tmp_path / "out.jsonl") == 0o600


def test_the_state_of_a_training_is_private(tmp_path: Path) -> None:
    Run.start(tiny_network().cnn, torch.zeros(1, 2)).save(tmp_path / "state", "key")
    assert mode(tmp_path / "state") == 0o600
    assert Run.load(tmp_path / "state", "key") is not None


def test_the_folder_of_the_workers_is_private(bundle: Bundle, tmp_path: Path) -> None:
    """It holds the names of projects and their extra params."""
    with serving(
        bundle.path, tmp_path / "log", "--device", "cpu", "--workers", "2", settings={"TMPDIR": str(tmp_path)}
    ):
        (folder,) = tmp_path.glob("prelabel-*")
        assert any(folder.iterdir())
        assert mode(folder) == 0o700
    assert not list(tmp_path.glob("prelabel-*"))


def test_every_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"basic_auth_pass", "api_token", "admin_token", "tls_key_password"} == SECRETS
    for name in SECRETS:
        (tmp_path / name).write_text(f"{name}-value\r\n")
        monkeypatch.setenv(f"PRELABEL_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("PRELABEL_BASIC_AUTH_USER", "u")
    settings = load_settings()
    assert "-value" not in repr(settings)
    assert {name: getattr(settings, name).get_secret_value() for name in SECRETS} == {
        name: f"{name}-value" for name in SECRETS
    }


def test_the_command_line_reads_secrets_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key\n")
    assert token({"LABEL_STUDIO_API_KEY_FILE": str(tmp_path / "key")}) == "key"
    environ = {"PRELABEL_BASIC_AUTH_USER": "u", "PRELABEL_BASIC_AUTH_PASS_FILE": str(tmp_path / "key")}
    assert basic_auth(None, environ) == BasicAuth("u", "key")


def test_a_secret_set_twice_or_an_unusable_file_is_refused(tmp_path: Path) -> None:
    assert read_secret("A", {}) == ""
    assert read_secret("A", {"A": "x"}) == "x"
    file = tmp_path / "file"
    file.write_bytes(b"hush")
    with pytest.raises(BadSetting, match="A and A_FILE are both set") as error:
        read_secret("A", {"A": "x", "A_FILE": str(file)})
    assert "hush" not in str(error.value)
    for content, words in (
        (b"", "one line"),
        (b"\n", "one line"),
        (b"hush\nhush\n", "one line"),
        (b"h" * 70_000, "one line"),
        (b"hush\xff", "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(BadSetting, match=words) as error:
            read_secret("A", {"A_FILE": str(file)})
        assert "hush" not in str(error.value)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadSetting, match=r"A_FILE = .* cannot be read"):
            read_secret("A", {"A_FILE": str(path)})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_token": "a b"}, "PRELABEL_API_TOKEN"),
        ({"api_token": "a,é"}, "PRELABEL_API_TOKEN"),
        ({"admin_token": "hush hush"}, "PRELABEL_ADMIN_TOKEN"),
        ({"admin_token": "hush", "api_token": "x, hush"}, "must differ from the tokens"),
        ({"tls_cert": "cert.pem"}, "PRELABEL_TLS_KEY both"),
        ({"tls_key": "key.pem"}, "PRELABEL_TLS_KEY both"),
    ],
)
def test_invalid_secrets_are_refused_without_showing_them(options: dict[str, str], words: str) -> None:
    with pytest.raises(BadSetting, match=words) as error:
        load_settings(**options)
    assert "hush" not in str(error.value)
