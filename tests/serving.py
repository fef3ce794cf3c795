"""A real uvicorn with httptools and uvloop around the server, on a free loopback port, and Label Studio's
requests.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from server.app import build_app
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.launch.launcher import server_options
from server.launch.uvicorn_protocol import listen
from server.models.fault_limits import DEFAULT_LIMITS
from server.settings import load_settings
from tests.loop_probe import LoopProbe


@contextmanager
def running(*bundles: Bundle, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server for these bundles; connections queue until it is ready. `options` are settings,
    `limits`, and a `probe` for the event loop. Without a probe of the caller's, the event loop is checked.
    """
    limits = options.pop("limits", DEFAULT_LIMITS)
    probe = options.pop("probe", None)
    watched = probe or LoopProbe()
    settings = load_settings(
        bundle=tuple(bundle.path for bundle in bundles), **({"device": "cpu", "port": 0} | options)
    )
    config = uvicorn.Config(watched.around(build_app(settings, limits=limits)), **server_options(settings))
    listening = listen(config)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": listening})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening[0].getsockname()[1]}", timeout=60) as client:
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
