"""Runs the server in a real uvicorn on a free loopback port, and sends Label Studio's requests."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import uvicorn

from server.app import build_app
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.launch.launcher import server_options
from server.launch.uvicorn_protocol import HEAD_TIMEOUT, READ_TIMEOUT, Connection, bind, listen
from server.settings import load_settings
from tests.loop_probe import LoopProbe
from tests.ports import PLAIN_HTTP


@contextmanager
def running(
    *bundles: Bundle,
    head_timeout: float = HEAD_TIMEOUT,
    read_timeout: float = READ_TIMEOUT,
    probe: LoopProbe | None = None,
    **options: Any,
) -> Iterator[httpx.Client]:
    """A client of a server for these bundles, which has started. `options`: settings, and `limits` and
    `on_crash` of the app. The event loop is checked, unless the caller does so with a `probe`.
    """
    watched = probe or LoopProbe()
    of_app = {name: options.pop(name) for name in ("limits", "on_crash") if name in options}
    settings = load_settings(
        bundle=tuple(bundle.path for bundle in bundles), **({"device": "cpu", "port": 0} | options)
    )
    protocol = partial(Connection, head_timeout=head_timeout)
    config = uvicorn.Config(
        watched.around(build_app(settings, **of_app)), **server_options(settings) | {"http": protocol}
    )
    listening = listen(bind(settings.host, settings.port), read_timeout)
    server = uvicorn.Server(config)

    def run() -> None:
        try:
            server.run(sockets=listening)
        finally:
            watched.started.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        watched.started.wait()  # until then it changes settings of the process
        url = f"http://127.0.0.1:{listening[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60, verify=PLAIN_HTTP) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        for each in listening:
            each.close()
    if probe is None:
        watched.check()


def predict_body(
    texts: Sequence[Any], config: str = TUTORIAL_CONFIG, project: str = "1.1795474444"
) -> dict[str, Any]:
    tasks = [{"id": i, "data": {"review": text}} for i, text in enumerate(texts)]
    return {
        "tasks": tasks,
        "project": project,
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


def predict(
    client: httpx.Client,
    texts: Sequence[Any],
    config: str = TUTORIAL_CONFIG,
    project: str = "1.1795474444",
    path: str = "",
) -> list[Any]:
    answer = client.post(f"{path}/predict", json=predict_body(texts, config, project))
    assert answer.status_code == 200, answer.text
    results: list[Any] = answer.json()["results"]
    return results


def set_up(
    client: httpx.Client,
    config: str = TUTORIAL_CONFIG,
    project: str = "1.1795474444",
    extra: Any = None,
    path: str = "",
) -> httpx.Response:
    body = {
        "project": project,
        "schema": config,
        "hostname": "http://localhost:8080",
        "access_token": "a secret",
        "extra_params": extra,
    }
    return client.post(f"{path}/setup", json=body)
