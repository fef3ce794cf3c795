"""The composition root: builds every part once; the lifespan starts and stops them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from server.api.error_handlers import error_handlers
from server.api.learning import Learning
from server.api.routes import build_routes
from server.api.server_status import ServerStatus
from server.batching.batcher import Batcher
from server.batching.buckets import Buckets
from server.batching.engine_threads import EngineThreads
from server.batching.observer import BatchObserver
from server.batching.pending_request import QueueEntry
from server.batching.row_admission import RowAdmission
from server.interpreter import INTERPRETER
from server.learning.receiver import LearningReceiver
from server.learning.store import STORE, LearningProject, LearningStore
from server.models.fault_limits import DEFAULT_LIMITS, FaultLimits
from server.models.health import Health
from server.models.learned import LearnedModels
from server.models.model import Model, load_model
from server.models.registry import Registry, load_registry
from server.models.reload_signal import reload_on_sighup
from server.observability.batch_observer import ServerBatchObserver
from server.observability.build_info import build_metrics
from server.observability.gpu_memory import NvmlReader, gpu_metrics
from server.observability.learning_metrics import learning_metrics
from server.observability.metrics import Metrics
from server.observability.metrics_page import MetricsPage
from server.observability.project_activity import ProjectActivity
from server.observability.tracing import TracingMiddleware, close_traces, open_traces, start_traces
from server.prediction.parse_thread import ParseThread
from server.prediction.predictor import Predictor
from server.prediction.scoring_store import ProjectScorings
from server.settings import Settings
from server.transport.json_slices import warm_up
from server.transport.middleware import RequestMiddleware

METRICS = "metrics"
"""Subfolder, of the folder that workers share, with the metrics of each worker."""


CRASH_GRACE = 5.0
"""Seconds for responses under way after a crash; then every connection is closed."""


def end_process() -> None:
    """Shut down as after SIGTERM; a second signal keeps slow clients from delaying it."""
    signal.raise_signal(signal.SIGTERM)
    asyncio.get_running_loop().call_later(CRASH_GRACE, signal.raise_signal, signal.SIGINT)


def build_app(
    settings: Settings,
    shared: Path | None = None,
    sighup_to: str = "",
    *,
    limits: FaultLimits = DEFAULT_LIMITS,
    on_crash: Callable[[], None] = end_process,
) -> Starlette:
    """The server for the bundles of `settings`; each is loaded and checked here.

    Several worker processes share the folder `shared`; `sighup_to` then names the process to signal for a
    reload. `on_crash` is called when nothing is answered any more. Raises BadSetting, BadBundle.
    """

    def load(path: Path) -> Model:
        return load_model(path, settings, shared)

    warm_up()
    metrics = Metrics()
    traces = open_traces(os.environ)
    registry = load_registry(settings, load, limits)
    device = next(iter(registry.slots.values())).current.engine.device
    batcher = build_batcher(settings, device, ServerBatchObserver(registry, metrics), limits, on_crash)
    health = Health(registry, batcher)
    publish_health = partial(health.publish, metrics.set_ready)
    registry.on_health_change = publish_health
    activity = ProjectActivity()
    learning = build_learning(settings, registry) if settings.learn else None
    project_scorings = ProjectScorings(shared / "projects.sqlite" if shared else None)
    parse_thread = ParseThread()
    predictors = build_predictors(settings, registry, batcher, project_scorings, parse_thread, learning)
    page = MetricsPage(
        metrics.registry,
        shared / METRICS if shared else None,
        [
            partial(build_metrics, registry),
            partial(gpu_metrics, NvmlReader()),
            *([partial(learning_metrics, learning.store)] if learning else []),
        ],
    )

    def metrics_page() -> bytes:
        publish_health()  # of this process, as of now; other workers publish theirs when it changes
        return page.text()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with INTERPRETER.tuned():
            metrics.started(settings.threads(device), list(settings.bundles), registry.names)
            publish_health()
            if traces is not None:
                start_traces(traces)
            async with batcher, following(learning):
                with reload_on_sighup(registry):
                    yield
            parse_thread.close()
            registry.close()
            project_scorings.close()
            if traces is not None:
                await close_traces(traces)

    status = ServerStatus(registry, batcher, health, settings.workers)
    app = Starlette(
        routes=build_routes(settings, status, predictors, activity, metrics_page, sighup_to, learning),
        exception_handlers=error_handlers(activity),
        middleware=[
            *([Middleware(TracingMiddleware, provider=traces)] if traces else []),
            Middleware(RequestMiddleware, on_request_done=metrics.on_request_done),
        ],
        lifespan=lifespan,
    )
    app.state.registry = registry
    app.state.health = health
    return app


def build_learning(settings: Settings, registry: Registry) -> Learning:
    """The learned models of projects. Raises BadInput for a file of another kind, Unavailable."""
    store = LearningStore(settings.learn_folder / STORE)

    def served(project: LearningProject) -> str:
        """The project may be of an earlier start, with other bundles."""
        known = project.model in registry.names
        return registry.current(project.model, project.name).version if known else ""

    receiver = LearningReceiver(store, served, settings.max_text)
    return Learning(store, receiver, LearnedModels(store, registry, settings.learn_folder))


@asynccontextmanager
async def following(learning: Learning | None) -> AsyncIterator[None]:
    """Serve the learned models from the first request on, and new ones as they come."""
    if learning is None:
        yield
        return
    await learning.models.follow()
    watching = asyncio.get_running_loop().create_task(learning.models.watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await learning.receiver.close()


def build_batcher(
    settings: Settings,
    device: str,
    observer: BatchObserver,
    limits: FaultLimits,
    on_crash: Callable[[], None],
) -> Batcher:
    """One batcher for all models; threads and batch size suit `device`."""
    buckets = Buckets[QueueEntry](
        settings.bucket_lengths,
        budget=settings.budget(device),
        max_wait=settings.max_wait,
        bulk_patience=settings.bulk_patience,
    )
    threads = EngineThreads(
        settings.threads(device), call_timeout=settings.call_timeout, max_hung=limits.hung_calls
    )
    return Batcher(buckets, threads, RowAdmission(settings.max_waiting_rows), observer, on_crash=on_crash)


def build_predictors(
    settings: Settings,
    registry: Registry,
    batcher: Batcher,
    project_scorings: ProjectScorings,
    parse_thread: ParseThread,
    learning: Learning | None,
) -> dict[str, Predictor]:
    """A predictor for each bundle and ensemble, by name; the default first."""
    return {
        name: Predictor(
            name,
            partial(registry.current, name),
            batcher,
            project_scorings,
            parse_thread,
            label_map=settings.label_map,
            scoring=settings.scoring,
            timeout=settings.request_timeout,
            max_text=settings.max_text,
            learns=learning.models.learns if learning else lambda _: False,
        )
        for name in registry.names
    }
