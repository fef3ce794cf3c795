"""Reload and rollback of bundles, for the administrator.

POST /admin/reload, /admin/rollback     with `{"bundle": NAME}`, or without a body for all bundles
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import BaseRoute

from server.api.endpoints import Endpoint
from server.api.guards import RouteGuard
from server.api.schemas import RELOAD, ROLLBACK, ReloadRequest
from server.errors import BadRequest, json_type
from server.models.registry import Change, Registry
from server.transport.responses import Json


def admin_routes(registry: Registry, guard: RouteGuard, sighup_to: str) -> list[BaseRoute]:
    """`sighup_to` names the process that reloads all workers; empty if this process serves alone.

    One of several workers must not change only its own bundles, so it refuses.
    """

    def route(endpoint: Endpoint, change: Callable[[str | None], Awaitable[list[Change]]]) -> BaseRoute:
        async def handler(request: Request) -> Json:
            async with guard.control_bodies.json_fields(request, ReloadRequest, empty=b"{}") as body:
                if sighup_to:
                    raise BadRequest(
                        "This server runs several workers: to change the bundles of all of them, send SIGHUP "
                        f"to {sighup_to}."
                    )
                name = body["bundle"]
                if name is not None and not isinstance(name, str):
                    raise BadRequest(f"bundle: expected the name of a bundle, found {json_type(name)}.")
                changes = await change(name)
            failed = any(each.error for each in changes)
            return Json({"changes": [vars(each) for each in changes]}, 409 if failed else 200)

        return guard.route(endpoint, handler)

    return [route(RELOAD, registry.reload), route(ROLLBACK, registry.rollback)]
