"""Secrets out of files: one rule for the server's and for the command line's."""

from pathlib import Path

import pytest

from server.errors import BadSetting
from server.label_studio.access import BasicAuth, basic_auth, token
from server.secret_files import secret
from server.settings import SECRETS, load_settings


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


def test_the_command_line_takes_files_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key\n")
    assert token({"LABEL_STUDIO_API_KEY_FILE": str(tmp_path / "key")}) == "key"
    environ = {"PRELABEL_BASIC_AUTH_USER": "u", "PRELABEL_BASIC_AUTH_PASS_FILE": str(tmp_path / "key")}
    assert basic_auth(None, environ) == BasicAuth("u", "key")


def test_neither_both_nor_a_strange_file(tmp_path: Path) -> None:
    assert secret("A", {}) == ""
    assert secret("A", {"A": "x"}) == "x"
    file = tmp_path / "file"
    file.write_bytes(b"hush")
    with pytest.raises(BadSetting, match="A and A_FILE are both set") as refusal:
        secret("A", {"A": "x", "A_FILE": str(file)})
    assert "hush" not in str(refusal.value)
    for content, words in (
        (b"", "one line"),
        (b"\n", "one line"),
        (b"hush\nhush\n", "one line"),
        (b"h" * 70_000, "one line"),
        (b"hush\xff", "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(BadSetting, match=words) as refusal:
            secret("A", {"A_FILE": str(file)})
        assert "hush" not in str(refusal.value)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadSetting, match=r"A_FILE = .* cannot be read"):
            secret("A", {"A_FILE": str(path)})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_token": "a b"}, "PRELABEL_API_TOKEN"),
        ({"api_token": "a,é"}, "PRELABEL_API_TOKEN"),
        ({"admin_token": "hush hush"}, "PRELABEL_ADMIN_TOKEN"),
        ({"admin_token": "hush", "api_token": "x, hush"}, "must be another"),
        ({"tls_cert": "cert.pem"}, "PRELABEL_TLS_KEY both"),
        ({"tls_key": "key.pem"}, "PRELABEL_TLS_KEY both"),
    ],
)
def test_secrets_that_cannot_be_are_refused_without_showing_them(options: dict[str, str], words: str) -> None:
    with pytest.raises(BadSetting, match=words) as refusal:
        load_settings(**options)
    assert "hush" not in str(refusal.value)
