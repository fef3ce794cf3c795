"""JSON in and out: bodies within bounds, and refusals that name the field."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from server.errors import BadRequest, RequestTooLarge

LARGE_BODY = 1_000_000
"""Bytes from which a body is parsed in a thread."""


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def server_timing(seconds: Mapping[str, float]) -> str:
    """The value of a Server-Timing header (W3C, "Server Timing"): milliseconds a stage."""
    return ", ".join(f"{stage};dur={spent * 1000:.3f}" for stage, spent in seconds.items())


def tasks_of(body: Mapping[str, Any], most: int) -> list[Any]:
    """The body's tasks. Raises BadRequest, RequestTooLarge."""
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest(f"tasks: expected a list of tasks, found {kind_of(tasks)}.")
    if len(tasks) > most:
        raise RequestTooLarge(f"tasks: {len(tasks)} in one request; the limit is {most} (PRELABEL_MAX_TASKS). Send fewer at once.")
    return tasks


async def read_object(request: Request, max_bytes: int, empty: bytes = b"") -> dict[str, Any]:
    """The body as a JSON object; no body at all is read as `empty`. Raises BadRequest, RequestTooLarge."""
    return await parse_object(await read_body(request, max_bytes) or bytearray(empty))


async def read_body(request: Request, max_bytes: int) -> bytearray:
    """Raises BadRequest, RequestTooLarge."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise RequestTooLarge(f"The body is larger than {max_bytes} bytes (PRELABEL_MAX_BODY_BYTES). Send fewer tasks at once.")
    except ClientDisconnect:
        raise BadRequest("The client left before its body was complete.") from None
    return body


async def parse_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest."""
    value = await asyncio.to_thread(_parse, body) if len(body) > LARGE_BODY else _parse(body)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {kind_of(value)}.")
    return value


def _parse(body: bytearray) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    try:
        # orjson refuses lone surrogates and numbers past 64 bits, which Label Studio passes on; the library's parser takes them
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}.") from None


def label_config_of(body: Mapping[str, Any], field: str) -> str:
    """The labeling config in `field`. Raises BadRequest."""
    config = body.get(field)
    if not isinstance(config, str) or not config.strip():
        raise BadRequest(f"{field}: expected the labeling config as text, found {kind_of(config)}.")
    return config


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
