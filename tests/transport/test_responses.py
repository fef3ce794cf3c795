"""JSON responses in parts."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transport.responses import CHUNK, JsonParts, encode, large_json

VALUES = st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3), st.lists(st.integers(0, 9), max_size=3))


def body_of(response: JsonParts) -> bytes:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(response({"type": "http"}, None, send))  # type: ignore[arg-type]  # nothing is received
    body = b"".join(message.get("body", b"") for message in messages)
    assert int(response.headers["content-length"]) == len(body)
    assert [message.get("more_body", False) for message in messages[1:]] == [True] * (len(messages) - 2) + [
        False
    ]
    return body


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_an_object_in_parts_is_the_object(content: dict[str, Any]) -> None:
    assert body_of(asyncio.run(large_json(content))) == encode(content)


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_long_list_is_encoded_in_chunks(length: int) -> None:
    response = asyncio.run(large_json({"a": [{"b": "x" * 100}] * length, "c": "\ud800"}))
    assert json.loads(body_of(response)) == {"a": [{"b": "x" * 100}] * length, "c": "\ud800"}
    assert max(map(len, response.parts)) < 120 * CHUNK


def test_parts_are_sent_as_they_are() -> None:
    assert body_of(JsonParts([b"[1", b",2", b"]"])) == b"[1,2]"
    assert body_of(JsonParts([])) == b""
