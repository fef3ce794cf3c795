"""JSON request bodies: bounded in values, and parsed in a thread when they are large."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from server.errors import BadRequest, json_type
from server.transport.json_slices import check_body

T = TypeVar("T")

PARSE_IN_THREAD_BYTES = 131_072
"""Bytes from which a body is parsed in a thread. A smaller one holds at most 44,000 empty lists."""


async def parse_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest, RequestTooLarge."""
    return await parse_body(decode_object, body)


async def parse_body(parse: Callable[[bytearray], T], body: bytearray) -> T:
    """`parse(body)`, in a thread if the body is large. Raises what `parse` raises, and RequestTooLarge."""
    if len(body) < PARSE_IN_THREAD_BYTES:
        return parse(body)
    return await asyncio.to_thread(_parse_large, parse, body)


def _parse_large(parse: Callable[[bytearray], T], body: bytearray) -> T:
    check_body(body)
    return parse(body)


def decode_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest."""
    value = decode_json(body)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {json_type(value)}.")
    return value


def decode_json(body: bytearray | bytes) -> Any:
    """Raises BadRequest."""
    try:
        check_utf8(body)
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        problem = error
    try:
        return decode_leniently(body)
    except (ValueError, RecursionError):
        reason = f"not JSON: {problem}" if body else "empty; expected a JSON object"
        raise BadRequest(f"The body is {reason}.") from None


def check_utf8(body: bytearray | bytes) -> None:
    """Raises UnicodeDecodeError, also for what msgspec skips unread. Half a surrogate pair passes."""
    str(body, "utf-8", "surrogatepass")


def decode_leniently(body: bytearray | bytes) -> Any:
    """The standard library accepts lone surrogates and NaN, which Label Studio sends and msgspec refuses.
    Raises ValueError, RecursionError.
    """
    # as text: json.loads would also guess UTF-16 and skip a byte order mark, past the count of values
    return json.loads(str(body, "utf-8", "surrogatepass"), parse_int=_integer)


def _integer(digits: str) -> int | float:
    """Infinity for more digits than Python converts, as for 1e999: msgspec skips such a number unread."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
