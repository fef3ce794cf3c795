"""ASGI middleware for every request: request ID, default headers, access log, 500 for unhandled errors."""

import logging
import string
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.observability.access_log import HttpStats, RequestContext, fields_of, level_of, request_id
from server.transport.responses import error_response

log = logging.getLogger("prelabel.request")

OnRequestDone = Callable[[RequestContext, HttpStats], None]

RawHeaders = Iterable[tuple[bytes, bytes]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
"""Default headers. Responses are data: a browser must not run, frame, cache or sniff them."""


class RequestMiddleware:
    """Calls `on_request_done` once per request, after its response."""

    def __init__(self, app: ASGIApp, on_request_done: OnRequestDone) -> None:
        self._app = app
        self._on_request_done = on_request_done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        if not scope["query_string"].isascii():
            # Starlette decodes it as UTF-8 when it builds the URL; no route reads it.
            scope["query_string"] = quote(scope["query_string"], safe=string.punctuation).encode()
        context = RequestContext(request_id(scope["headers"]))
        state = scope.setdefault("state", {})
        state["context"] = context
        http_stats = state["http_stats"] = HttpStats(scope["method"], *(scope["client"] or (None, None)))

        async def receive_counted() -> Message:
            message = await receive()
            http_stats.bytes_in += len(message.get("body", b""))
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                http_stats.status = message["status"]
                message["headers"] = [
                    *with_default_headers(message["headers"]),
                    (b"x-request-id", context.id.encode()),
                ]
            else:
                http_stats.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_counted, send_with_headers)
        except Exception:  # the last handler: any bug must end in a response
            log.exception("unhandled exception, request_id=%s", context.id)
            if not http_stats.status:
                detail = "Internal server error. See the server log for this request ID."
                response = error_response(scope["path"], 500, "InternalError", detail, context.id)
                await response(scope, receive, send_with_headers)
        finally:
            http_stats.seconds = time.perf_counter() - begun
            http_stats.route, http_stats.model = _route_of(scope), state.get("model")
            self._on_request_done(context, http_stats)
            level = level_of(http_stats.route, http_stats.status)
            if log.isEnabledFor(level):
                log.log(level, "request", extra={"fields": fields_of(context, http_stats)})


def context_of(request: Request) -> RequestContext:
    """The context that handlers fill for the access log and the metrics."""
    context: RequestContext = request.state.context
    return context


def with_default_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """`headers`, and those of HEADERS that are not among them."""
    own = list(headers)
    names = {name for name, _ in own}
    return own + [default for default in HEADERS if default[0] not in names]


def _route_of(scope: Scope) -> str | None:
    """The route's path below its mount: `/films/predict` is `/predict` of the model `films`."""
    route: Any = scope.get("route")
    return route.path if isinstance(route, Route) else None
