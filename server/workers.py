"""The server as one process or several.

Several are uvicorn's: a parent that opens the port, starts them, replaces one that died, and on SIGHUP replaces them all, one by
one, each when the next is ready. They share a folder of the parent's: the tables, mapped into each one's memory, and what projects
asked for.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from server.app import build_app
from server.logs import start_logging
from server.settings import Settings
from server.tls import tls_options

WORKER_TIMEOUT = 60
"""Seconds within which a worker is ready, and answers its parent's question whether it is alive."""


def serve(settings: Settings, on_checked: Callable[[Starlette], None]) -> None:
    """Serve until a signal ends it. `on_checked` is called when every bundle has been loaded and checked, before the port is opened.

    Raises BadSetting, BadBundle.
    """
    start_logging(settings.log_level, settings.log_format)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "loop": "uvloop",
        "http": "httptools",
        "timeout_keep_alive": 30,
        "log_config": None,  # as everything else is logged
        "access_log": False,  # the envelope's line is in its place
        "server_header": False,
        **tls_options(settings),
    }
    if settings.workers == 1:
        app = build_app(settings)
        on_checked(app)
        uvicorn.run(app, **options)
        return
    with TemporaryDirectory(prefix="prelabel-") as folder:
        shared = Path(folder)
        on_checked(build_app(settings, shared))
        config = uvicorn.Config(
            partial(_worker, settings, shared), factory=True, workers=settings.workers, timeout_worker_healthcheck=WORKER_TIMEOUT, **options
        )
        Multiprocess(config, [config.bind_socket()]).run()


def _worker(settings: Settings, shared: Path) -> Starlette:
    start_logging(settings.log_level, settings.log_format)
    return build_app(settings, shared)
