"""Probes and the metrics page."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.guards import RouteGuard
from server.api.schemas import (
    LIVE,
    METRICS,
    READY,
)
from server.transport.responses import Json


def live_route(guard: RouteGuard) -> BaseRoute:
    """Asks nothing of any model: a failing engine is built anew in place, and nothing is won by killing the
    process for it.
    """

    async def live(request: Request) -> Json:
        return Json({"status": "live"})

    return guard.route(LIVE, live)


def ready_route(unhealthy_reason: Callable[[], str | None], guard: RouteGuard) -> BaseRoute:
    async def ready(request: Request) -> Json:
        found = unhealthy_reason()
        return (
            Json({"status": "ready"})
            if found is None
            else Json({"status": "not ready", "detail": found}, 503)
        )

    return guard.route(READY, ready)


def metrics_route(text: Callable[[], bytes], guard: RouteGuard) -> BaseRoute:
    """`text` reads files."""

    async def metrics(request: Request) -> Response:
        return Response(await asyncio.to_thread(text), media_type=METRICS.media)

    return guard.route(METRICS, metrics)
