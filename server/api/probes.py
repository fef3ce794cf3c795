"""Probes and the metrics page.

GET  /live        whether the process works, or must be restarted
GET  /ready       whether all models answer, or why not
GET  /metrics     metrics for Prometheus
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.guards import RouteGuard
from server.api.schemas import LIVE, METRICS, READY
from server.models.health import Health
from server.threads import in_thread
from server.transport.responses import Json


def live_route(health: Health, guard: RouteGuard) -> BaseRoute:
    """Independent of the models: a failing engine is rebuilt in place, and a restart would not help."""

    async def live(request: Request) -> Json:
        reason = health.crash_reason()
        if reason is None:
            return Json({"status": "live"})
        return Json({"status": "not live", "detail": reason}, 503)

    return guard.route(LIVE, live)


def ready_route(health: Health, guard: RouteGuard) -> BaseRoute:
    async def ready(request: Request) -> Json:
        reason = health.first_unhealthy_reason()
        if reason is None:
            return Json({"status": "ready"})
        return Json({"status": "not ready", "detail": reason}, 503)

    return guard.route(READY, ready)


def metrics_route(page: Callable[[], bytes], guard: RouteGuard) -> BaseRoute:
    """`page` reads files, so it runs in a thread."""

    async def metrics(request: Request) -> Response:
        return Response(await in_thread(page), media_type=METRICS.media_type)

    return guard.route(METRICS, metrics)
