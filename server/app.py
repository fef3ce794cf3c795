"""The composition root: builds every part once, starts and stops them in the lifespan, answers every error."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from server.arrays import Floats, Ids
from server.batcher import Batcher, Runner, WaitingRow
from server.buckets import Buckets
from server.bundle import Bundle
from server.engines import Engine, open_engine, pad
from server.errors import PrelabelError
from server.predictor import Predictor
from server.routes import Json, routes
from server.settings import Settings

log = logging.getLogger(__name__)


def build_app(settings: Settings, bundle: Bundle) -> Starlette:
    """The server for one bundle. Raises BadSetting, BadBundle before any port is opened."""
    engine = open_engine(bundle, engine=settings.engine, device=settings.device)
    batcher = Batcher(
        Buckets[WaitingRow](
            settings.bucket_lengths,
            budget=settings.batch_tokens,
            max_wait=settings.max_wait,
            bulk_patience=settings.bulk_patience,
        ),
        [runner(engine)] * settings.threads(engine.device),
        max_waiting_rows=settings.max_waiting_rows,
    )
    predictor = Predictor(bundle, batcher, label_map=settings.label_map, score=settings.score, timeout=settings.request_timeout)

    def describe() -> dict[str, object]:
        return {
            "model_class": bundle.manifest.model_class,
            "engine": engine.name,
            "device": engine.device,
            "waiting_rows": batcher.waiting_rows,
        }

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(warm_up, engine, bundle.manifest.min_length, settings.bucket_lengths)
        serving = asyncio.create_task(batcher.serve())
        yield
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        engine.close()

    return Starlette(
        routes=routes(predictor, describe=describe, max_tasks=settings.max_tasks, max_body_bytes=settings.max_body_bytes),
        exception_handlers={PrelabelError: _refused, HTTPException: _no_route, Exception: _failed},
        lifespan=lifespan,
    )


def runner(engine: Engine) -> Runner:
    """What the batcher calls in an engine's thread: pad, run."""

    def run(rows: Sequence[Ids], length: int) -> Floats:
        return engine.run(*pad(rows, length))

    return run


def warm_up(engine: Engine, min_length: int, lengths: Sequence[int]) -> None:
    """One call at every bucket length, so that no request is the first of its shape."""
    for length in lengths:
        size = max(length, min_length)
        engine.run(np.zeros((1, size), dtype=np.int32), np.array([size], dtype=np.int32))


async def _refused(request: Request, error: Exception) -> Json:
    assert isinstance(error, PrelabelError)
    if error.status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error.__cause__)
    else:
        log.warning("%s %s refused with %d: %s", request.method, request.url.path, error.status, error)
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    return Json({"status": error.status, "error": type(error).__name__, "detail": str(error)}, error.status, headers=headers)


async def _no_route(request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return Json({"status": error.status_code, "error": "HTTPException", "detail": detail}, error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Json:
    """A mistake of ours: the answer names no internals; uvicorn logs the traceback."""
    return Json({"status": 500, "error": "InternalError", "detail": "The server made a mistake; its log has the details."}, 500)
