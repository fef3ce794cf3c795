"""JSON request bodies: bounded in values, and parsed in a thread when they are large."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from server.errors import BadRequest, RequestTooLarge

T = TypeVar("T")

MAX_CONTAINERS, MAX_VALUES = 2_000_000, 20_000_000
"""Lists and objects, and values of any kind, per body. An empty list takes three bytes of a body and seventy
of memory, and parsing millions of them holds the interpreter lock. A task of Label Studio's has about ten
containers and fifty values.
"""

SCAN_BLOCK = 2**20
"""Bytes scanned at a time."""

LARGE_BODY = 1_000_000
"""Bytes from which a body is parsed in a thread."""

JSON_TYPES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


async def parse_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest, RequestTooLarge."""
    return await parse_body(decode_object, body)


async def parse_body(parse: Callable[[bytearray], T], body: bytearray) -> T:
    """`parse(body)`, in a thread if the body is large. Raises what `parse` raises, and RequestTooLarge."""
    if len(body) <= LARGE_BODY:
        return parse(body)
    await asyncio.to_thread(_check_values, body)
    return await asyncio.to_thread(parse, body)


def _check_values(body: bytearray) -> None:
    """Counts the characters that start or separate values, including those inside texts.

    Raises RequestTooLarge.
    """
    if len(body) <= MAX_CONTAINERS:
        return  # too small to hold that many
    found = dict.fromkeys("[{,", 0)
    for begin in range(0, len(body), SCAN_BLOCK):
        block = np.frombuffer(body, np.uint8, min(SCAN_BLOCK, len(body) - begin), begin)
        for sign in found:
            found[sign] += np.count_nonzero(block == ord(sign))
    containers, values = found["["] + found["{"], found[","]
    if containers > MAX_CONTAINERS or values > MAX_VALUES:
        raise RequestTooLarge(
            f"The body holds about {containers:,} lists and objects and {values:,} other values; the maximum "
            f"is {MAX_CONTAINERS:,} and {MAX_VALUES:,}. Send fewer tasks per request."
        )


def decode_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        value = _decode_leniently(body, error)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {json_type(value)}.")
    return value


def _decode_leniently(body: bytearray, problem: Exception) -> Any:
    """The standard library accepts lone surrogates and NaN, which Label Studio sends and msgspec refuses."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}.") from None


def json_type(value: object) -> str:
    """The JSON type of a value, in words."""
    return JSON_TYPES.get(type(value), type(value).__name__)
