"""JSON request bodies: bounded in values, and parsed in a thread when they are large."""

import json
from functools import cache
from typing import Any

import msgspec

from server.errors import BadRequest, json_type
from server.threads import in_thread
from server.transport.json_slices import check_body

PARSE_IN_THREAD_BYTES = 131_072
"""Bytes from which a body is parsed in a thread. A smaller one holds at most 44,000 empty lists, or 15,000
fields.
"""


async def parse_fields(body: bytearray, kind: type) -> dict[str, Any]:
    """The fields of a JSON object that the TypedDict `kind` names, of any type; None for those that it does
    not have. What `kind` does not name is not built: it may be most of a large body.

    Raises BadRequest, RequestTooLarge.
    """
    if len(body) < PARSE_IN_THREAD_BYTES:
        return _decode_fields(body, kind)
    return await in_thread(_decode_fields, body, kind)


def _decode_fields(body: bytearray, kind: type) -> dict[str, Any]:
    try:
        parts = msgspec.structs.asdict(_decoder(kind).decode(body))
    except (ValueError, RecursionError):
        _check_large(body)
        found = decode_object(body)
        return {name: found.get(name) for name in kind.__annotations__}
    return {name: _decode_part(bytearray(part)) for name, part in parts.items()}


@cache
def _decoder(kind: type) -> msgspec.json.Decoder[Any]:
    nothing = msgspec.Raw(b"null")
    fields = [(name, msgspec.Raw, nothing) for name in kind.__annotations__]
    return msgspec.json.Decoder(msgspec.defstruct(kind.__name__, fields))


def _decode_part(part: bytearray) -> Any:
    _check_large(part)
    return decode_json(part)


def _check_large(body: bytearray) -> None:
    if len(body) >= PARSE_IN_THREAD_BYTES:
        check_body(body)


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
