"""JSON bodies: bounded, parsed in a thread when they are large."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from server.errors import BadRequest, RequestTooLarge

T = TypeVar("T")

MOST_CONTAINERS, MOST_VALUES = 2_000_000, 20_000_000
"""Lists and objects, and values of any kind, in one body. An empty list takes three bytes of a body and
seventy of memory, and while millions are made nobody else is answered. A task of Label Studio's has about ten
of the one and fifty of the other.
"""


COUNTED = 2**20
"""Bytes that are counted at a time."""


LARGE_BODY = 1_000_000
"""Bytes from which a body is parsed in a thread."""


async def parse_object(body: bytearray) -> dict[str, Any]:
    """Raises BadRequest."""
    return await parsed(decode_object, body)


async def parsed(parse: Callable[[bytearray], T], body: bytearray) -> T:
    """`parse` of a body, in a thread for a large one. Raises what `parse` raises, and RequestTooLarge for too
    many values.
    """
    if len(body) <= LARGE_BODY:
        return parse(body)
    await asyncio.to_thread(_check_values, body)
    return await asyncio.to_thread(parse, body)


def _check_values(body: bytearray) -> None:
    """Counts the signs that values begin with or stand between, also those in texts. Raises RequestTooLarge."""
    if len(body) <= MOST_CONTAINERS:
        return  # too small for so many
    found = dict.fromkeys("[{,", 0)
    for begin in range(0, len(body), COUNTED):
        part = np.frombuffer(body, np.uint8, min(COUNTED, len(body) - begin), begin)
        for sign in found:
            found[sign] += np.count_nonzero(part == ord(sign))
    if found["["] + found["{"] > MOST_CONTAINERS or found[","] > MOST_VALUES:
        raise RequestTooLarge(
            "The body holds about "
            f"{found['['] + found['{']:,} lists and objects and {found[',']:,} other values; the most are {MOST_CONTAINERS:,} and "
            f"{MOST_VALUES:,}. Send fewer tasks at once."
        )


def decode_object(body: bytearray) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        value = _by_the_library(body, error)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {kind_of(value)}.")
    return value


def _by_the_library(body: bytearray, problem: Exception) -> Any:
    """Lone surrogates and NaN, which Label Studio passes on, are beyond msgspec; the standard library takes
    them.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}.") from None


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)
