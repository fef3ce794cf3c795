"""Responses: JSON, errors in the form of the route's protocol, and the Server-Timing header."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.threads import in_thread

CHUNK = 32
"""Elements of a list that are encoded in one call: less than a millisecond for projects with long errors."""


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


class JsonParts(Response):
    """JSON that is encoded already, in parts. They are sent one after another, so that no copy of the whole
    is made, which would take the event loop's time for a large answer.
    """

    media_type = "application/json"

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__()
        self.parts = parts
        self.headers["content-length"] = str(sum(map(len, parts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def large_json(content: Mapping[str, Any]) -> JsonParts:
    """A response with an object that has long lists. They are encoded in a thread, a chunk at a time: an
    encoder keeps the interpreter's lock until it is done.
    """
    return JsonParts(await in_thread(lambda: list(_parts(content))))


def encode(content: Any) -> bytes:
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError:
        return json.dumps(content).encode()  # msgspec refuses lone surrogates, which Label Studio sends


def _parts(content: Mapping[str, Any]) -> Iterator[bytes]:
    separator = b"{"
    for name, value in content.items():
        yield b"%b%b:" % (separator, encode(name))
        separator = b","
        if not isinstance(value, list):
            yield encode(value)
            continue
        for begin in range(0, len(value), CHUNK):
            yield (b"," if begin else b"[") + encode(value[begin : begin + CHUNK])[1:-1]
        yield b"]" if value else b"[]"
    yield b"}" if content else b"{}"


class ErrorBody(TypedDict):
    """`error` is the name of the error class, `detail` a sentence for a person."""

    status: int
    error: str
    detail: str
    request_id: str


class OpenInferenceErrorBody(TypedDict):
    """`error` is a sentence for a person."""

    error: str


def error_response(
    path: str, status: int, kind: str, detail: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Json:
    """The error response to a request for `path`."""
    body: ErrorBody | OpenInferenceErrorBody = (
        {"error": detail}
        if is_open_inference(path)
        else {"status": status, "error": kind, "detail": detail, "request_id": request_id}
    )
    return Json(body, status, headers=headers)


def is_open_inference(path: str) -> bool:
    """Whether `path`, under any prefix, belongs to the Open Inference Protocol."""
    return "/v2/" in f"{path}/"


def server_timing(seconds: Mapping[str, float]) -> str:
    """The value of a Server-Timing header (W3C, "Server Timing"): milliseconds per stage."""
    return ", ".join(f"{stage};dur={spent * 1000:.3f}" for stage, spent in seconds.items())
