"""The composition root: builds every part once, starts and stops them in the lifespan, answers every error."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount

from server.api.admin import admin_routes
from server.api.guards import RouteGuard
from server.api.ml_backend import MlBackend
from server.api.open_inference import InferenceServer
from server.api.openapi import About, openapi_route
from server.api.probes import live_route, metrics_route, ready_route
from server.api.schemas import Degraded, ModelDescription
from server.batching.batcher import Batcher, QueueEntry
from server.batching.buckets import Buckets
from server.errors import BadRequest, PrelabelError
from server.interpreter import INTERPRETER
from server.models.health import any_unhealthy_reason, unhealthy_reason
from server.models.model import Model, load_model
from server.models.registry import Change, Registry, Slot
from server.observability.batch_observer import ServerBatchObserver
from server.observability.build_info import build_metrics
from server.observability.gpu_memory import gpu_metrics, nvml
from server.observability.metrics import Metrics
from server.observability.metrics_page import MetricsPage
from server.observability.project_activity import ProjectActivity
from server.observability.tracing import Traced, close_traces, open_traces
from server.prediction.predictor import Predictor
from server.prediction.scoring_store import ProjectScorings
from server.settings import Settings, is_free
from server.transport.admission import AdmissionController
from server.transport.auth import Callers, check_admin, check_caller, check_health
from server.transport.middleware import RequestMiddleware, context_of
from server.transport.request_body import BodyBounds
from server.transport.responses import Json, error_response

log = logging.getLogger(__name__)

METRICS = "metrics"
"""Folder, in that which worker processes share, of what each has counted."""


def build_app(settings: Settings, shared: Path | None = None, sighup_to: str = "") -> Starlette:
    """The server for the settings' bundles, each loaded and checked. `shared` is a folder that its worker
    processes have in common; `sighup_to` says who changes bundles where it is one of several.

    Raises BadSetting, BadBundle before any port is opened.
    """

    def load(path: Path) -> Model:
        return load_model(path, settings, shared)

    def tell_health() -> None:
        for name in registry.names:
            metrics.ready(name, unhealthy_reason(name, registry, batcher) is None)

    metrics = Metrics()
    traces = open_traces(os.environ)
    registry = Registry(
        {name: Slot(path, load(path)) for name, path in settings.bundles.items()},
        settings.ensemble,
        load,
        tell_health,
    )
    device = next(iter(registry.slots.values())).current.engine.device
    threads = settings.threads(device)
    batcher = Batcher(
        Buckets[QueueEntry](
            settings.bucket_lengths,
            budget=settings.budget(device),
            max_wait=settings.max_wait,
            bulk_patience=settings.bulk_patience,
        ),
        threads,
        max_waiting_rows=settings.max_waiting_rows,
        call_timeout=settings.call_timeout,
        observer=ServerBatchObserver(registry, metrics),
    )
    activity = ProjectActivity()
    project_scorings = ProjectScorings(shared / "projects.sqlite" if shared else None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with INTERPRETER.tuned():
            metrics.started(threads, list(settings.bundles))
            tell_health()
            serving = asyncio.create_task(batcher.serve())
            with reloading_on_hangup(registry):
                yield
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await asyncio.to_thread(batcher.close)
            registry.close()
            project_scorings.close()
            if traces is not None:
                await close_traces(traces)

    def told() -> bytes:
        tell_health()  # ours to the moment; other workers tell theirs when it changes
        return exposition.text()

    exposition = MetricsPage(
        metrics.registry,
        shared / METRICS if shared else None,
        [partial(build_metrics, registry), partial(gpu_metrics, nvml())],
    )
    paths = all_routes(settings, registry, batcher, activity, project_scorings, told, sighup_to)
    app = Starlette(
        routes=[Mount(settings.path_prefix, routes=paths), *paths] if settings.path_prefix else paths,
        exception_handlers={PrelabelError: partial(_refused, activity), HTTPException: _no_route},
        middleware=[
            *([Middleware(Traced, provider=traces)] if traces else []),
            Middleware(RequestMiddleware, count=metrics.request),
        ],
        lifespan=lifespan,
    )
    app.state.registry = registry
    app.state.unhealthy_reason = partial(any_unhealthy_reason, registry, batcher)
    return app


def all_routes(
    settings: Settings,
    registry: Registry,
    batcher: Batcher,
    activity: ProjectActivity,
    project_scorings: ProjectScorings,
    metrics: Callable[[], bytes],
    sighup_to: str,
) -> list[BaseRoute]:
    """The first bundle at /, every bundle and ensemble at its name."""
    callers = Callers(
        settings.basic_auth_user, settings.basic_auth_pass.get_secret_value(), settings.api_tokens
    )
    guard = RouteGuard(
        caller=partial(check_caller, callers=callers),
        health=partial(check_health, callers=callers),
        admin=partial(check_admin, token=settings.admin_token.get_secret_value()),
        max_tasks=settings.max_tasks,
        body=BodyBounds(
            settings.max_body_bytes,
            settings.body_timeout,
            max(settings.body_timeout, settings.request_timeout),
        ),
        admission=AdmissionController(settings.max_requests, settings.max_waiting_bytes),
    )

    def describe(name: str) -> ModelDescription:
        models = [member.model for member in registry.current(name).members]
        return {
            "model": name,
            "model_class": models[0].bundle.manifest.model_class if len(models) == 1 else "Ensemble",
            "engine": models[0].engine.name,
            "device": models[0].engine.device,
            **degraded(models),
            "waiting_rows": batcher.waiting_rows,
            "worker": {"process": os.getpid(), "of": settings.workers},
            "models": {each: registry.current(each).version for each in registry.names},
        }

    def predictor_of(name: str) -> Predictor:
        return Predictor(
            name,
            partial(registry.current, name),
            batcher,
            project_scorings,
            label_map=settings.label_map,
            scoring=settings.scoring,
            timeout=settings.request_timeout,
            max_text=settings.max_text,
        )

    def routes_of(name: str) -> list[BaseRoute]:
        return MlBackend(
            name, predictors[name], activity, guard, partial(describe, name), partial(reason, name)
        ).routes()

    def reason(name: str) -> str | None:
        return unhealthy_reason(name, registry, batcher)

    any_reason = partial(any_unhealthy_reason, registry, batcher)
    by_signal = partial(_by_signal_only, sighup_to)
    predictors = {name: predictor_of(name) for name in registry.names}
    by_name = {name: routes_of(name) for name in registry.names}
    routes: list[BaseRoute] = [
        *by_name[registry.names[0]],
        live_route(guard),
        ready_route(any_reason, guard),
        metrics_route(metrics, guard),
        *InferenceServer(predictors, registry.current, reason, any_reason, activity, guard).routes(),
        *(
            admin_routes(by_signal, by_signal, guard)
            if sighup_to
            else admin_routes(registry.reload, registry.rollback, guard)
        ),
        *(Mount(f"/{name}", routes=own) for name, own in by_name.items() if is_free(name)),
    ]
    prefixes = ["", *([settings.path_prefix] if settings.path_prefix else [])]
    return [*routes, openapi_route(routes, guard, About(prefixes, callers.schemes, registry.names))]


def degraded(models: Sequence[Model]) -> Degraded:
    """Whether a model runs on the CPU where a GPU was expected, and why."""
    reason = next(filter(None, (model.engine.degraded for model in models)), None)
    return {"degraded": False} if reason is None else {"degraded": True, "degraded_because": reason}


async def _by_signal_only(sighup_to: str, name: str | None) -> list[Change]:
    raise BadRequest(
        "This is one of several processes that answer: to change bundles in all of them, send SIGHUP "
        f"to {sighup_to}."
    )


@contextmanager
def reloading_on_hangup(registry: Registry) -> Iterator[None]:
    """SIGHUP takes all bundles anew. Only the main thread can hear a signal; elsewhere /admin/reload is the
    way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, running = asyncio.get_running_loop(), set[asyncio.Task[Any]]()

    def reload() -> None:
        task = loop.create_task(registry.reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    yield
    loop.remove_signal_handler(signal.SIGHUP)


async def _refused(activity: ProjectActivity, request: Request, error: Exception) -> Json:
    assert isinstance(error, PrelabelError)
    context = context_of(request)
    context.error = error
    model = getattr(request.state, "model", None)
    if model is not None:
        activity.refused(model, context.project, error)
    return error_response(
        request.url.path, error.status, type(error).__name__, str(error), context.id, error.headers
    )


async def _no_route(request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(
        request.url.path, error.status_code, "HTTPException", detail, context_of(request).id, error.headers
    )
