"""Reload and rollback, for the administrator."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import BaseRoute

from server.api.endpoints import Operation
from server.api.guards import RouteGuard
from server.api.schemas import (
    RELOAD,
    ROLLBACK,
)
from server.errors import BadRequest
from server.models.registry import Change
from server.transport.json_codec import kind_of
from server.transport.request_body import read_object
from server.transport.responses import Json

Alter = Callable[[str | None], Awaitable[list[Change]]]
"""The name of a bundle, None for all → what was changed. Raises BadRequest."""


def admin_routes(reload: Alter, rollback: Alter, guard: RouteGuard) -> list[BaseRoute]:
    """The body, `{"bundle": name}`, may be missing: then all are meant."""

    def route(operation: Operation, change: Alter) -> BaseRoute:
        async def handler(request: Request) -> Json:
            body = await read_object(request, guard.body, empty=b"{}")
            name = body.get("bundle")
            if name is not None and not isinstance(name, str):
                raise BadRequest(f"bundle: expected the name of a bundle, found {kind_of(name)}.")
            changes = await change(name)
            failed = any(each.error for each in changes)
            return Json({"changes": [vars(each) for each in changes]}, 409 if failed else 200)

        return guard.route(operation, handler)

    return [route(RELOAD, reload), route(ROLLBACK, rollback)]
