"""Who may call an endpoint, and how much a call may send."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.endpoints import Access, Handler, Operation, OperationRoute
from server.transport.admission import AdmissionController
from server.transport.request_body import BodyBounds

Check = Callable[[Mapping[str, str]], None]
"""A request's headers → nothing. Raises Unauthorized."""


@dataclass(frozen=True)
class RouteGuard:
    """Who may come in, by route, and with how much."""

    caller: Check
    health: Check
    admin: Check
    max_tasks: int
    body: BodyBounds
    admission: AdmissionController

    def route(self, operation: Operation, handler: Handler, model: str | None = None) -> BaseRoute:
        """`handler` behind the operation's door, for `model` where it is of one alone."""
        checks: Mapping[Access, Check] = {"caller": self.caller, "health": self.health, "admin": self.admin}
        check = checks[operation.access]

        async def guarded(request: Request) -> Response:
            if model is not None:
                request.state.model = model
            check(request.headers)
            return await handler(request)

        return OperationRoute(operation, guarded)
