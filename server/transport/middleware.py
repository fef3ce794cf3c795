"""What goes around every request: an id that comes back in the answer, the headers that each answer has, the
line in the log, and an answer where a mistake of ours would be none.
"""

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
from server.transport.responses import Json, error_response

log = logging.getLogger("prelabel.request")

Count = Callable[[RequestContext, HttpStats], None]

RawHeaders = Iterable[tuple[bytes, bytes]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
"""On every answer that has none of that name itself: it is data, for no browser to run, frame, keep or guess
at.
"""


class RequestMiddleware:
    """ASGI middleware, outside of everything but Starlette's own last resort. `count` is told of every
    request when it is over.
    """

    def __init__(self, app: ASGIApp, count: Count) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        if not scope["query_string"].isascii():
            # Starlette reads it as UTF-8 wherever it needs the whole address, and no route needs it
            scope["query_string"] = quote(scope["query_string"], safe=string.punctuation).encode()
        context = RequestContext(request_id(scope["headers"]))
        state = scope.setdefault("state", {})
        state["context"] = context
        http_stats = state["http_stats"] = HttpStats(scope["method"], *(scope["client"] or (None, None)))

        async def counted() -> Message:
            message = await receive()
            http_stats.bytes_in += len(message.get("body", b""))
            return message

        async def enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                http_stats.status = message["status"]
                message["headers"] = [
                    *with_headers(message["headers"]),
                    (b"x-request-id", context.id.encode()),
                ]
            else:
                http_stats.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted, enveloped)
        except Exception:  # a mistake of ours can be anything
            log.exception("a mistake in the server, request_id=%s", context.id)
            if not http_stats.status:
                await _mistake(scope["path"], context.id)(scope, receive, enveloped)
        finally:
            http_stats.seconds = time.perf_counter() - begun
            http_stats.route, http_stats.model = _route_of(scope), state.get("model")
            self._count(context, http_stats)
            level = level_of(http_stats.route, http_stats.status)
            if log.isEnabledFor(level):
                log.log(level, "request", extra={"fields": fields_of(context, http_stats)})


def context_of(request: Request) -> RequestContext:
    """Where parts of the server tell of a request what its line shall say."""
    context: RequestContext = request.state.context
    return context


def with_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """An answer's headers and those of HEADERS that it lacks."""
    own = list(headers)
    names = {name for name, _ in own}
    return own + [each for each in HEADERS if each[0] not in names]


def _route_of(scope: Scope) -> str | None:
    """The path as the route has it, without what it is mounted at: `/films/predict` is `/predict` of the
    model `films`.
    """
    route: Any = scope.get("route")
    return route.path if isinstance(route, Route) else None


def _mistake(path: str, request_id: str) -> Json:
    """The answer names no internals."""
    return error_response(
        path, 500, "InternalError", "The server made a mistake; its log has the details.", request_id
    )
