"""The server as one process or several.

Several are uvicorn's: a parent that opens the port, starts them, replaces one that died, and on SIGHUP
replaces them all, one by one, each when the next is ready. They share a folder of the parent's: the tables,
mapped into each one's memory, what projects asked for, and what each has counted.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from server.app import METRICS, build_app
from server.launch.tls import tls_options
from server.launch.uvicorn_protocol import Connection, listen
from server.log_setup import start_logging
from server.observability.worker_files import live_in
from server.settings import Settings

WORKER_TIMEOUT = 15
"""Seconds within which a worker answers its parent's question whether it is alive, and is ready in place of
another. Of one that died while it was asked the parent hears only when they are over.
"""


def serve(settings: Settings, on_checked: Callable[[Starlette], None]) -> None:
    """Serve until a signal ends it. `on_checked` is called when every bundle has been loaded and checked,
    before the port is opened.

    Raises BadSetting, BadBundle.
    """
    start_logging(settings.log_level, settings.log_format)
    options = server_options(settings)
    if settings.workers == 1:
        app = build_app(settings)
        on_checked(app)
        config = uvicorn.Config(app, **options)
        with ends_in_good_order():
            uvicorn.Server(config).run(listen(config))
        if app.state.health.crash_reason() is not None:
            raise SystemExit(1)  # logged already; a supervisor restarts a process that failed
        return
    with TemporaryDirectory(prefix="prelabel-") as folder:
        shared = Path(folder)
        (shared / METRICS).mkdir()
        # the library looks for it when it is imported, which the workers do anew
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared / METRICS)
        on_checked(build_app(settings, shared))
        config = uvicorn.Config(
            partial(_worker, settings, shared),
            factory=True,
            workers=settings.workers,
            timeout_worker_healthcheck=WORKER_TIMEOUT,
            **options,
        )
        Multiprocess(config, listen(config)).run()


def server_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's."""
    return {
        "host": settings.host,
        "port": settings.port,
        "loop": "uvloop",
        "http": Connection,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": settings.drain_timeout,
        "log_config": None,  # as everything else is logged
        "access_log": False,  # the envelope's line is in its place
        "server_header": False,
        **tls_options(settings),
    }


@contextmanager
def ends_in_good_order() -> Iterator[None]:
    """uvicorn stops on a signal and then raises it once more, for whoever handled it before: here nobody who
    would end the process with a failure.
    """
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _worker(settings: Settings, shared: Path) -> Starlette:
    start_logging(settings.log_level, settings.log_format)
    app = build_app(settings, shared, sighup_to=f"their parent, process {os.getppid()}")
    app.state.life = live_in(shared / METRICS)
    return app
