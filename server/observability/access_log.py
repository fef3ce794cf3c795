"""One line in the log for each request: what is known of it, and which of that is told.

Never told: bodies, texts, credentials, queries, and paths that lead nowhere, for a client may have put
anything there.
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
"""Ids of a caller's own that are taken over; for others one is made."""

ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
"""A proxy on this machine names the client, in a header: anything else than an address is not told."""

PROBES = {
    "/health",
    "/live",
    "/ready",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}/ready",
}
"""Asked every few seconds, so their good answers are told only at the level debug."""


@dataclass(slots=True)
class RequestContext:
    """What the parts of the server tell of a request; None is not told. `seconds` by stage."""

    id: str
    project: object = None
    tasks: int | None = None
    empty: int | None = None
    failed: int | None = None
    tokens: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    prediction_stats: PredictionStats | None = None
    error: PrelabelError | None = None


@dataclass(slots=True)
class HttpStats:
    """What is seen of a request from outside. `route` is a route's own path, None where none was found;
    `status` is 0 where nothing was answered.
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
    """The caller's `X-Request-Id` where it is a short plain token, else a new one."""
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
    """What is told, without what is not known."""
    told = {
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
    return {name: value for name, value in told.items() if value is not None}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
