"""No secret and no text leaks into the log, responses, status, metrics or help of a real server.

Every secret string contains a mark. The output is searched for the mark in every form in which it could leak.
"""

import base64
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.settings import SECRETS, load_settings
from tests.conftest import ROOT
from tests.e2e.conftest import serving

MARK = "Geheimnis"
USER = "label-studio"
PASSWORD, TOKEN, ADMIN = (f"{MARK}-{name}" for name in ("password", "token", "admin"))
SETTINGS = {
    "PRELABEL_BASIC_AUTH_USER": USER,
    "PRELABEL_BASIC_AUTH_PASS": PASSWORD,
    "PRELABEL_API_TOKEN": f"{TOKEN},{MARK}-other",
    "PRELABEL_ADMIN_TOKEN": ADMIN,
    "PRELABEL_TLS_KEY_PASSWORD": f"{MARK}-key",
    "PRELABEL_LOG_LEVEL": "debug",
}
TEXTS = [
    f"good {MARK} film",
    f"{MARK}\n{MARK}",
    f"<br />{MARK}\x1b[31m",
    f"{MARK} \ud800",
    [MARK, {"a": MARK}],
    {MARK: MARK},
    f"{MARK} " * 5000,
]


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


AUTHORIZATIONS = (
    basic(USER, PASSWORD),
    f"Bearer {TOKEN}",
    f"Bearer {ADMIN}",
    f"Bearer {MARK}-wrong",
    basic(MARK, MARK),
    basic(USER, MARK),
    f"{MARK}",
    f"Basic {MARK}",
)

INFER = "/v2/models/tiny/infer"

PATHS = (
    "/",
    "/health",
    "/setup",
    "/predict",
    "/versions",
    "/webhook",
    "/admin/reload",
    "/admin/rollback",
    "/v2",
    INFER,
    "/openapi.json",
)

ROUTES = [
    *itertools.product(("GET", "POST", "PUT"), PATHS),
    ("POST", f"/v2/models/{MARK}/infer"),
    ("POST", f"/v2/models/tiny/versions/{MARK}/infer"),
]


def bodies() -> list[bytes]:
    tasks = [{"id": 1, "data": {"review": text, MARK: MARK}, "meta": MARK} for text in TEXTS]
    common: dict[str, Any] = {
        "project": "1.1795474444",
        "label_config": TUTORIAL_CONFIG,
        "schema": TUTORIAL_CONFIG,
        "access_token": MARK,
        "hostname": MARK,
    }
    common |= {
        "params": {"login": MARK, "password": MARK, "context": {"a": MARK}},
        "extra_params": {"note": MARK},
    }
    whole = [
        common | {"tasks": tasks},
        common | {"tasks": tasks[:1]},
        common | {"tasks": MARK, "project": MARK + " and more"},
        common | {"tasks": [MARK, None, {"data": MARK}], "project": [MARK]},
        common | {"tasks": tasks, "label_config": "<View/>", "schema": "<View/>"},
        common | {"tasks": tasks, "extra_params": MARK},
        {"action": "START_TRAINING", "project": {"token": MARK, "task_data_password": MARK}},
        {"action": MARK, "annotation": {"result": MARK}},
        {"bundle": 7, "token": MARK},
        {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [MARK]}],
            "parameters": {MARK: MARK},
        },
        {"inputs": [{"name": MARK, "shape": [1], "datatype": MARK, "data": [MARK]}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": MARK, "data": [MARK]}]},
        {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [MARK]}],
            "outputs": [{"name": MARK}],
        },
        {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [MARK]}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [{MARK: MARK}], MARK: MARK}]},
    ]
    broken = [
        b"",
        MARK.encode(),
        f'{{"tasks": "{MARK}'.encode(),
        f'["{MARK}"]'.encode(),
        f'{{"tasks": {MARK}}}'.encode(),
        MARK.encode() + b"\xff\x00",
        b"[" * 99_999,
    ]
    return [*(json.dumps(each).encode() for each in whole), *broken]


def forms() -> list[str]:
    """The mark as it is, and in base64 at each of the three alignments."""
    cut = [base64.b64encode(b"x" * lead + MARK.encode())[4 if lead else 0 : -4].decode() for lead in range(3)]
    return [MARK.lower(), *(each.lower() for each in cut)]


def leaks(text: str) -> list[str]:
    return [form for form in forms() if form in text.lower()]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_log_responses_and_status_do_not_leak(bundle: Bundle, tmp_path: Path, log_format: str) -> None:
    log = tmp_path / "log"
    statuses = set()
    with serving(
        bundle.path, log, "--device", "cpu", settings=SETTINGS | {"PRELABEL_LOG_FORMAT": log_format}
    ) as client:

        def search(answer: httpx.Response) -> None:
            statuses.add(answer.status_code)
            assert not leaks(f"{answer.headers} {answer.text}"), (
                answer.request.method,
                answer.request.url.path,
                answer.status_code,
            )

        for (method, path), authorization in itertools.product(ROUTES, AUTHORIZATIONS):
            headers = {
                "Authorization": authorization,
                "X-Request-Id": f"{MARK} no id",
                "User-Agent": f"heartex/{MARK}",
                "X-Forwarded-For": MARK,
                "Cookie": MARK,
            }
            for body in bodies() if authorization in AUTHORIZATIONS[:3] else [b"", MARK.encode()]:
                search(client.request(method, path, params={"token": MARK}, headers=headers, content=body))
        # a 404 returns the path to the client, but it must not be logged
        for authorization in AUTHORIZATIONS:
            assert (
                client.post(
                    f"/{MARK}/{MARK}%0A{MARK}", headers={"Authorization": authorization}, content=MARK
                ).status_code
                == 404
            )
        status = client.get("/", headers={"Authorization": AUTHORIZATIONS[0]})
        search(status)
        assert status.json()["projects"]
    assert statuses >= {200, 400, 401, 405, 422}
    written = log.read_text("utf-8", "replace")
    assert written.count("/predict") > 20
    assert written.count(INFER.replace("tiny", "{name}")) > 20
    assert not leaks(written)


def test_settings_help_and_errors_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert all(leaks(getattr(settings, name).get_secret_value()) for name in SECRETS)
    assert not leaks(f"{settings!r} {settings}")
    for arguments in (
        ["--help"],
        ["serve", "--help"],
        ["connect", "--help"],
        ["annotate", "--help"],
        ["serve", "--port", "x"],
        ["serve", "--bundle", "none"],
    ):
        done = subprocess.run(
            [sys.executable, "prelabel.py", *arguments],
            cwd=ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not leaks(done.stdout + done.stderr)
