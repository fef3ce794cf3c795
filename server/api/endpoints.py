"""Endpoints as values: path, access, request and response types. Routes and /openapi.json use them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import (
    BadRequest,
    BodyEncoded,
    BodyTimeout,
    EngineFailed,
    Overloaded,
    PrelabelError,
    RequestTooLarge,
    Unavailable,
)

Access = Literal["caller", "health", "admin"]
"""Which credentials an endpoint needs: a caller's, none for probes, or the administrator's."""

Handler = Callable[[Request], Awaitable[Response]]

BODY_ERRORS = (BadRequest, BodyTimeout, RequestTooLarge, BodyEncoded, Overloaded)
"""Errors of every endpoint that reads a body."""

INFERENCE_ERRORS = (EngineFailed, Unavailable)
"""Further errors of an endpoint that predicts."""


@dataclass(frozen=True)
class Endpoint:
    """`request_type` and `response_type` are the types of the bodies; `other_responses` gives, by status, the
    types of responses that are neither 200 nor an error. `example` is a valid request body and `media_type`
    the type of the 200 response. A body may be absent if `body_optional`. If `binary_tensors`, tensors may
    follow the JSON of a body.
    """

    method: Literal["GET", "POST"]
    path: str
    access: Access
    summary: str
    response_type: Any
    request_type: Any = None
    errors: tuple[type[PrelabelError], ...] = ()
    other_responses: Mapping[int, Any] = field(default_factory=dict)
    example: Any = None
    body_optional: bool = False
    binary_tensors: bool = False
    media_type: str = "application/json"


class EndpointRoute(Route):
    """The Starlette route of an endpoint."""

    def __init__(self, endpoint: Endpoint, handler: Handler) -> None:
        super().__init__(endpoint.path, handler, methods=[endpoint.method])
        self.spec = endpoint
