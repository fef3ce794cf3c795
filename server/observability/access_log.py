"""Access log: one line per request.

Bodies, texts, credentials, query strings and unknown paths are never logged, because they may contain
anything.
"""

import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.errors import PrelabelError
from server.observability.prediction_stats import PredictionStats
from server.observability.project_activity import name_of

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request IDs accepted from a client. Any other is replaced by a generated one."""

ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
"""A proxy may set the client's address in a header; anything but an IP address is not logged."""

PROBES = {
    "/health",
    "/live",
    "/ready",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}/ready",
}
"""Called every few seconds, so successful calls are logged at level debug."""


@dataclass(slots=True)
class RequestContext:
    """What handlers record about a request. None is not logged. `seconds` per stage."""

    id: str
    project: object = None
    tasks: int | None = None
    empty: int | None = None
    failed: int | None = None
    tokens: int | None = None
    truncated: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    prediction_stats: PredictionStats | None = None
    error: PrelabelError | None = None


@dataclass(slots=True)
class HttpStats:
    """What the middleware records about a request. `route` is the route's pattern, None if no route matched;
    `status` is 0 if no response was sent.
    """

    method: str
    client: str | None
    port: int | None = None
    route: str | None = None
    model: str | None = None
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's `X-Request-Id` if it matches REQUEST_ID, otherwise a new ID."""
    for name, value in headers:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if REQUEST_ID.fullmatch(given):
                return given
    return secrets.token_hex(8)


def level_of(route: str | None, status: int) -> int:
    if status >= 500 or status == 0:
        return logging.ERROR
    if status >= 400:
        return logging.WARNING
    return logging.DEBUG if route in PROBES else logging.INFO


def fields_of(context: RequestContext, http_stats: HttpStats) -> Mapping[str, Any]:
    """The fields of the log line; fields without a value are left out."""
    fields = {
        "request_id": context.id,
        "method": http_stats.method,
        "route": http_stats.route,
        "status": http_stats.status,
        "model": http_stats.model,
        "project": None if context.project is None else name_of(context.project),
        "tasks": context.tasks,
        "empty": context.empty or None,
        "failed": context.failed or None,
        "tokens": context.tokens,
        "truncated": context.truncated or None,
        "queue_ms": _milliseconds(context.seconds.get("queue")),
        "engine_ms": _milliseconds(context.seconds.get("engine")),
        "total_ms": _milliseconds(http_stats.seconds),
        "bytes_in": http_stats.bytes_in,
        "bytes_out": http_stats.bytes_out,
        "client": http_stats.client if http_stats.client and ADDRESS.fullmatch(http_stats.client) else None,
        "client_port": http_stats.port or None,
        "error": type(context.error).__name__ if context.error else None,
        "reason": str(context.error) if context.error else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
