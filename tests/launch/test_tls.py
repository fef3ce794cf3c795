"""HTTPS by the server itself, with a certificate that is made here."""

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bundle import Bundle
from server.errors import BadSetting
from server.launch.startup_banner import address
from server.launch.tls import tls_options
from server.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.launch.test_signals import PATIENCE, until
from tests.ports import reserved_port
from tests.serving import predict

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cert.pem for 127.0.0.1, its key.pem, and locked.pem, the same key with a password; other.pem is
    another's.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    made = tmp_path_factory.mktemp("tls")
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    for cert, key in (("cert.pem", "key.pem"), ("strange.pem", "other.pem")):
        _openssl(
            made,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
            *subject,
        )
    _openssl(made, "pkey", "-in", "key.pem", "-aes256", "-passout", f"pass:{PASSWORD}", "-out", "locked.pem")
    (made / "text.pem").write_text("no certificate")
    return made


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([shutil.which("openssl") or "", *arguments], cwd=folder, check=True, capture_output=True)


def settings_of(folder: Path, cert: str, key: str, password: str = "") -> Settings:
    return load_settings(tls_cert=folder / cert, tls_key=folder / key, tls_key_password=password)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_real_server_speaks_https_and_nothing_else(
    bundle: Bundle, folder: Path, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    port = reserved_port()
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--bundle",
        str(bundle.path),
        "--port",
        str(port),
        "--device",
        "cpu",
        "--workers",
        str(workers),
    ]
    files = {
        "CERT": folder / "cert.pem",
        "KEY": folder / "locked.pem",
        "KEY_PASSWORD_FILE": tmp_path / "password",
    }
    environment = {f"PRELABEL_TLS_{name}": str(path) for name, path in files.items()}
    trusting = ssl.create_default_context(cafile=folder / "cert.pem")
    with (
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True
        ) as process,
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}", verify=trusting, timeout=PATIENCE, trust_env=False
        ) as client,
    ):

        def up() -> bool:
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                assert process.poll() is None
                return False

        try:
            until(up)
            assert len(predict(client, ["good film"])) == 1
            old = ssl.create_default_context(cafile=folder / "cert.pem")
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert (
                httpx.get(f"https://127.0.0.1:{port}/health", verify=old, trust_env=False).status_code == 200
            )
            with pytest.raises(httpx.TransportError):
                httpx.get(f"https://127.0.0.1:{port}/health", trust_env=False)
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
        finally:
            process.terminate()
            log = process.communicate(timeout=PATIENCE)[1]
    assert f"https://127.0.0.1:{port}" in log
    assert PASSWORD not in log


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("none.pem", "key.pem"),
            r"tls_cert \(PRELABEL_TLS_CERT\) = .*none.pem': cannot be read \(No such file or directory\)",
        ),
        (("cert.pem", "none.pem"), r"tls_key \(PRELABEL_TLS_KEY\) = .*none.pem': cannot be read"),
        (("text.pem", "key.pem"), r"expected a PEM certificate with the private key"),
        (("cert.pem", "other.pem"), r"expected a PEM certificate with the private key .*MISMATCH"),
        (("cert.pem", "locked.pem"), r"and PRELABEL_TLS_KEY_PASSWORD if the key has a password"),
        (("cert.pem", "locked.pem", "wrong"), r"and PRELABEL_TLS_KEY_PASSWORD if the key has a password"),
    ],
)
def test_files_that_cannot_be_served_with_are_refused_in_plain_words(
    folder: Path, files: Any, words: str
) -> None:
    with pytest.raises(BadSetting, match=words) as error:
        tls_options(settings_of(folder, *files))
    assert "wrong" not in str(error.value)


def test_without_a_certificate_there_is_no_tls(folder: Path) -> None:
    assert tls_options(load_settings()) == {}
    assert address(load_settings()) == "http://127.0.0.1:9090"
    assert address(settings_of(folder, "cert.pem", "key.pem")) == "https://127.0.0.1:9090"
