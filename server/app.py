"""The composition root: builds every part once, starts and stops them in the lifespan, answers every error."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount

from server.admission import Admission
from server.auth import Callers, check_admin, check_caller, check_health
from server.batcher import Batcher, WaitingRow
from server.bodies import BodyBounds, Json
from server.buckets import Buckets
from server.envelope import Envelope, record_of
from server.errors import BadRequest, PrelabelError
from server.journal import Journal
from server.models import Model, load_model
from server.predictor import Predictor
from server.project_scorings import ProjectScorings
from server.registry import Change, Registry, Slot
from server.routes import Backend, Door, admin_routes, live_route, ready_route
from server.settings import Settings, is_free

log = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0001
"""Seconds after which a thread that waits for the interpreter's lock may ask for it; 5 ms by default. It must be less than
`predictor.LOOP_SLICE`: the event loop lets go of the lock for a moment after every slice, the waiting thread is woken each
time, finds the lock taken again, and begins to wait anew. With the default a single task waited for all of a bulk request's
texts to be tokenized (1.1 s beside 20,000 tasks)."""


def build_app(settings: Settings, shared: Path | None = None, sighup_to: str = "") -> Starlette:
    """The server for the settings' bundles, each loaded and checked. `shared` is a folder that its worker processes have in common; `sighup_to` says who
    changes bundles where it is one of several.

    Raises BadSetting, BadBundle before any port is opened.
    """

    def load(path: Path) -> Model:
        return load_model(path, settings, shared)

    registry = Registry({name: Slot(path, load(path)) for name, path in settings.bundles.items()}, settings.ensemble, load)
    device = next(iter(registry.slots.values())).current.engine.device
    batcher = Batcher(
        Buckets[WaitingRow](
            settings.bucket_lengths,
            budget=settings.budget(device),
            max_wait=settings.max_wait,
            bulk_patience=settings.bulk_patience,
        ),
        settings.threads(device),
        max_waiting_rows=settings.max_waiting_rows,
        call_timeout=settings.call_timeout,
        watcher=registry.watch,
    )
    journal = Journal()
    project_scorings = ProjectScorings(shared / "projects.sqlite" if shared else None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sys.setswitchinterval(SWITCH_INTERVAL)
        gc.collect()
        gc.freeze()  # modules and models stay: the collector need not walk through half a million objects of theirs again and again
        serving = asyncio.create_task(batcher.serve())
        with reloading_on_hangup(registry):
            yield
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        registry.close()
        project_scorings.close()

    paths = all_routes(settings, registry, batcher, journal, project_scorings, sighup_to)
    app = Starlette(
        routes=[Mount(settings.path_prefix, routes=paths), *paths] if settings.path_prefix else paths,
        exception_handlers={PrelabelError: partial(_refused, journal), HTTPException: _no_route},
        middleware=[Middleware(Envelope)],
        lifespan=lifespan,
    )
    app.state.registry = registry
    app.state.trouble = partial(any_trouble, registry, batcher)
    return app


def all_routes(
    settings: Settings, registry: Registry, batcher: Batcher, journal: Journal, project_scorings: ProjectScorings, sighup_to: str
) -> list[BaseRoute]:
    """The first bundle at /, every bundle and ensemble at its name."""
    callers = Callers(settings.basic_auth_user, settings.basic_auth_pass.get_secret_value(), settings.api_tokens)
    door = Door(
        caller=partial(check_caller, callers=callers),
        health=partial(check_health, callers=callers),
        admin=partial(check_admin, token=settings.admin_token.get_secret_value()),
        max_tasks=settings.max_tasks,
        body=BodyBounds(settings.max_body_bytes, settings.body_timeout, max(settings.body_timeout, settings.request_timeout)),
        admission=Admission(settings.max_requests, settings.max_waiting_bytes),
    )

    def describe(name: str) -> dict[str, Any]:
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

    def routes_of(name: str) -> list[BaseRoute]:
        predictor = Predictor(
            name,
            partial(registry.current, name),
            batcher,
            project_scorings,
            label_map=settings.label_map,
            scoring=settings.scoring,
            timeout=settings.request_timeout,
            max_text=settings.max_text,
        )
        return Backend(name, predictor, journal, door, partial(describe, name), partial(trouble, registry, batcher, name)).routes()

    by_signal = partial(_by_signal_only, sighup_to)
    by_name = {name: routes_of(name) for name in registry.names}
    return [
        *by_name[registry.names[0]],
        live_route(door.health),
        ready_route(partial(any_trouble, registry, batcher), door.health),
        *(admin_routes(by_signal, by_signal, door) if sighup_to else admin_routes(registry.reload, registry.rollback, door)),
        *(Mount(f"/{name}", routes=routes) for name, routes in by_name.items() if is_free(name)),
    ]


def degraded(models: Sequence[Model]) -> dict[str, Any]:
    """Whether a model runs on the CPU where a GPU was expected, and why."""
    reason = next(filter(None, (model.engine.degraded for model in models)), None)
    return {"degraded": reason is not None, **({"degraded_because": reason} if reason else {})}


def trouble(registry: Registry, batcher: Batcher, name: str) -> str | None:
    """Why what is served under `name` does not answer, if so."""
    return f"{name}: its model calls fail; its engine is being built anew." if registry.failing(name) else batcher.trouble


def any_trouble(registry: Registry, batcher: Batcher) -> str | None:
    return next(filter(None, (trouble(registry, batcher, name) for name in registry.names)), None)


async def _by_signal_only(sighup_to: str, name: str | None) -> list[Change]:
    raise BadRequest(f"This is one of several processes that answer: to change bundles in all of them, send SIGHUP to {sighup_to}.")


@contextmanager
def reloading_on_hangup(registry: Registry) -> Iterator[None]:
    """SIGHUP takes all bundles anew. Only the main thread can hear a signal; elsewhere /admin/reload is the way."""
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


async def _refused(journal: Journal, request: Request, error: Exception) -> Json:
    assert isinstance(error, PrelabelError)
    record = record_of(request)
    record.error = error
    model = getattr(request.state, "model", None)
    if model is not None:
        journal.refused(model, record.project, error)
    return Json(
        {"status": error.status, "error": type(error).__name__, "detail": str(error), "request_id": record.id}, error.status, headers=dict(error.headers)
    )


async def _no_route(request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    body = {"status": error.status_code, "error": "HTTPException", "detail": detail, "request_id": record_of(request).id}
    return Json(body, error.status_code, headers=error.headers)
