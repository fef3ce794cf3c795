"""Probes and the metrics page."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.guards import Door
from server.api.schemas import (
    LIVE,
    METRICS,
    READY,
)
from server.transport.responses import Json


def live_route(door: Door) -> BaseRoute:
    """Asks nothing of any model: a failing engine is built anew in place, and nothing is won by killing the
    process for it.
    """

    async def live(request: Request) -> Json:
        return Json({"status": "live"})

    return door.route(LIVE, live)


def ready_route(trouble: Callable[[], str | None], door: Door) -> BaseRoute:
    async def ready(request: Request) -> Json:
        found = trouble()
        return (
            Json({"status": "ready"})
            if found is None
            else Json({"status": "not ready", "detail": found}, 503)
        )

    return door.route(READY, ready)


def metrics_route(text: Callable[[], bytes], door: Door) -> BaseRoute:
    """`text` reads files."""

    async def metrics(request: Request) -> Response:
        return Response(await asyncio.to_thread(text), media_type=METRICS.media)

    return door.route(METRICS, metrics)
