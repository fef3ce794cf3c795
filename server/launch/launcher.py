"""Starts the server as one process, or as a parent with several worker processes.

uvicorn's `Multiprocess` is the parent: it starts the workers, replaces one that dies, and on
SIGHUP replaces all of them one at a time. The workers share a temporary folder: memory-mapped tables, the
scoring chosen by each project, and metric values.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from server.app import METRICS, build_app
from server.launch.learner_process import learner_process, learner_settings
from server.launch.tls import tls_options
from server.launch.uvicorn_protocol import BACKLOG, Connection, bind, listen
from server.learning.store import STORE, LearningStore
from server.log_setup import start_logging
from server.models.fault_limits import DEFAULT_LIMITS
from server.models.model import Model, load_model
from server.models.registry import Registry, load_registry
from server.observability.tracing import open_traces
from server.observability.worker_files import hold_alive_lock
from server.settings import Settings, unknown_labels, unknown_variables

log = logging.getLogger(__name__)

WORKER_TIMEOUT = 15
"""Seconds within which a worker must reply to the parent's health check, and within which a replacement must
be ready. If a worker dies during the check, the parent notices only after this time.
"""

KEEP_ALIVE = 30
"""Seconds after which an idle connection is closed, with one server and on a cluster."""

OnChecked = Callable[[Registry], None]
"""Called once when every bundle has been loaded and checked."""

OnListening = Callable[[Settings, Registry], None]
"""Called once when the port is open; the settings have its number."""


def serve(settings: Settings, on_listening: OnListening) -> None:
    """Serve until a signal ends the process. The port is taken first and opens once everything is checked.
    Raises BadSetting, BadBundle before it opens.
    """
    start_logging(settings.log_level, settings.log_format)
    if unknown := unknown_variables(os.environ):
        log.warning("%s", unknown)
    options = server_options(settings)
    with bind(settings.host, settings.port) as bound:
        settings = settings.model_copy(update={"port": bound.getsockname()[1]})
        if settings.workers == 1:
            _serve_alone(settings, options, bound, on_listening)
        else:
            _serve_with_workers(settings, options, bound, on_listening)


def _serve_alone(
    settings: Settings, options: dict[str, Any], bound: socket.socket, on_listening: OnListening
) -> None:
    app = build_app(settings)
    listening = listen(bound)
    warn_of_labels(settings, app.state.registry)
    on_listening(settings, app.state.registry)
    with ignore_repeated_signal(), _learner(settings):
        uvicorn.Server(uvicorn.Config(app, **options)).run(listening)
    if app.state.health.crash_reason() is not None:
        raise SystemExit(1)  # logged already; a supervisor restarts a process that failed


def _serve_with_workers(
    settings: Settings, options: dict[str, Any], bound: socket.socket, on_listening: OnListening
) -> None:
    listening: list[socket.socket] = []

    def on_checked(registry: Registry) -> None:
        listening.extend(listen(bound))
        warn_of_labels(settings, registry)
        on_listening(settings, registry)

    with TemporaryDirectory(prefix="prelabel-") as folder:
        shared = Path(folder)
        (shared / METRICS).mkdir()
        # prometheus_client reads it at import; the workers import it in new processes
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared / METRICS)
        check_startup(settings, shared, on_checked)
        config = uvicorn.Config(
            partial(_worker, settings, shared),
            factory=True,
            workers=settings.workers,
            timeout_worker_healthcheck=WORKER_TIMEOUT,
            **options,
        )
        with _learner(settings):
            Multiprocess(config, listening).run()


def _learner(settings: Settings) -> AbstractContextManager[None]:
    """The learner, next to a server that learns."""
    return learner_process(learner_settings(settings)) if settings.learn else nullcontext()


def check_startup(
    settings: Settings,
    shared: Path,
    on_checked: OnChecked,
    load: Callable[[Path, Settings, Path], Model] = load_model,
) -> None:
    """Check in the parent whatever would stop a worker from starting: load each bundle, then close it. The
    parent itself serves nothing, so it builds no app. Raises BadSetting, BadBundle.
    """
    open_traces(os.environ)  # raises if the packages are missing; starts nothing
    if settings.learn:
        LearningStore(settings.learn_folder / STORE).close()  # makes the file before several workers open it
    registry = load_registry(settings, lambda path: load(path, settings, shared), DEFAULT_LIMITS)
    try:
        on_checked(registry)
    finally:
        registry.close()


def warn_of_labels(settings: Settings, registry: Registry) -> None:
    """Log the keys of the label map that are a label of no model."""
    labels = dict.fromkeys(label for name in registry.names for label in registry.current(name).labels)
    if unknown := unknown_labels(settings, labels.keys()):
        log.warning("%s", unknown)


def server_options(settings: Settings) -> dict[str, Any]:
    """Options of `uvicorn.Config`."""
    return {
        "host": settings.host,
        "port": settings.port,
        "backlog": BACKLOG,
        "loop": "uvloop",
        "http": Connection,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": settings.drain_timeout,
        "log_config": None,  # uvicorn logs through our handler
        "access_log": False,  # RequestMiddleware writes the access log
        "server_header": False,
        **tls_options(settings),
    }


@contextmanager
def ignore_repeated_signal() -> Iterator[None]:
    """uvicorn shuts down on SIGTERM or SIGINT and then raises the signal again for the previous handler. The
    default handler would end the process with a failure status, so ignore the second signal.
    """
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _worker(settings: Settings, shared: Path) -> Starlette:
    start_logging(settings.log_level, settings.log_format)
    app = build_app(settings, shared, sighup_to=f"the parent, process {os.getppid()}")
    app.state.alive_lock = hold_alive_lock(shared / METRICS)
    return app
