"""The guard of every route: credentials by kind of access, and body limits by kind of request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.endpoints import Access, Endpoint, EndpointRoute, Handler
from server.settings import Settings
from server.transport.admission import AdmissionController
from server.transport.auth import Credentials, check_admin, check_caller, check_health
from server.transport.request_body import MAX_CONTROL_BODY, MAX_WEBHOOK_BODY, BodyLimits, BodyReader

CheckHeaders = Callable[[Mapping[str, str]], None]
"""Takes a request's headers. Raises Unauthorized."""


@dataclass(frozen=True)
class RouteGuard:
    """`checks` by access. `prediction_bodies` reads requests for predictions, `webhook_bodies` webhooks that
    are learned from, and `control_bodies` all others.
    """

    checks: Mapping[Access, CheckHeaders]
    prediction_bodies: BodyReader
    control_bodies: BodyReader
    webhook_bodies: BodyReader
    max_tasks: int
    max_text: int

    @classmethod
    def from_settings(cls, settings: Settings, credentials: Credentials) -> "RouteGuard":
        admin_token = settings.admin_token.get_secret_value()
        timeout = max(settings.body_timeout, settings.request_timeout)
        return cls(
            checks={
                "caller": lambda headers: check_caller(headers, credentials),
                "health": lambda headers: check_health(headers, credentials),
                "admin": lambda headers: check_admin(headers, admin_token),
            },
            prediction_bodies=BodyReader(
                BodyLimits(settings.max_body_bytes, settings.body_timeout, timeout),
                AdmissionController.for_predictions(settings.max_requests, settings.max_waiting_bytes),
            ),
            control_bodies=BodyReader(
                BodyLimits(
                    min(MAX_CONTROL_BODY, settings.max_body_bytes),
                    settings.body_timeout,
                    timeout,
                    size_limit="a fixed limit for /setup, /webhook and /admin",
                ),
                AdmissionController.for_control_requests(MAX_CONTROL_BODY),
            ),
            webhook_bodies=BodyReader(
                BodyLimits(
                    min(MAX_WEBHOOK_BODY, settings.max_body_bytes),
                    settings.body_timeout,
                    timeout,
                    size_limit="a fixed limit for /webhook",
                ),
                AdmissionController.for_webhooks(MAX_WEBHOOK_BODY),
            ),
            max_tasks=settings.max_tasks,
            max_text=settings.max_text,
        )

    def route(self, endpoint: Endpoint, handler: Handler, model: str | None = None) -> BaseRoute:
        """Checks credentials before `handler` runs. `model` names the model of the route, if it has one."""
        check = self.checks[endpoint.access]

        async def guarded(request: Request) -> Response:
            if model is not None:
                request.state.model = model
            check(request.headers)
            return await handler(request)

        return EndpointRoute(endpoint, guarded)
