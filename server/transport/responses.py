"""Responses: JSON, errors in the form of the route's protocol, and the Server-Timing header."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return msgspec.json.encode(content)
        except UnicodeEncodeError:
            return json.dumps(content).encode()  # msgspec refuses lone surrogates, which Label Studio sends


class JsonParts(Response):
    """JSON that is encoded already, in parts. They are sent one after another, so that no copy of the whole
    is made, which would take the event loop's time for a large answer.
    """

    media_type = "application/json"

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__()
        self._parts = parts
        self.headers["content-length"] = str(sum(map(len, parts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


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
