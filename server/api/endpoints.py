"""A route as a value: its path, who may use it, what it takes and answers. The application is routed by
these, and /openapi.json is written from them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import (
    BadRequest,
    BodyTimeout,
    EngineFailed,
    Overloaded,
    PrelabelError,
    RequestTooLarge,
    Unavailable,
)

Access = Literal["caller", "health", "admin"]
"""Which door: for those with credentials, for probes too, for the administrator."""

Handler = Callable[[Request], Awaitable[Response]]

BODY = (BadRequest, BodyTimeout, RequestTooLarge)
"""Refusals of a body."""

QUEUE = (Overloaded, EngineFailed, Unavailable)
"""Refusals of a request for predictions."""


@dataclass(frozen=True)
class Operation:
    """`takes` and `answers` are types of bodies, `otherwise` those of answers with another status than 200
    that refuse nothing; `example` is a body that is answered, `media` the media type of a good answer. A body
    may be missing where it is `optional`, and have tensors behind its JSON where it is `binary`.
    """

    method: Literal["GET", "POST"]
    path: str
    access: Access
    summary: str
    answers: Any
    takes: Any = None
    refuses: tuple[type[PrelabelError], ...] = ()
    otherwise: Mapping[int, Any] = field(default_factory=dict)
    example: Any = None
    optional: bool = False
    binary: bool = False
    media: str = "application/json"


class OperationRoute(Route):
    """The route of an operation."""

    def __init__(self, operation: Operation, handler: Handler) -> None:
        super().__init__(operation.path, handler, methods=[operation.method])
        self.operation = operation
