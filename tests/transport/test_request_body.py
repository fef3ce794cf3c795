"""Bodies that would become far more in memory than they are on the line."""

import asyncio

import pytest

from server.api.ml_backend_codec import parse_tasks
from server.errors import RequestTooLarge
from server.transport.json_codec import MAX_CONTAINERS, MAX_VALUES, parse_object


@pytest.mark.parametrize("part", [b"[],", b'{"a":{}},', b"[[[[[[[["])
def test_a_body_of_millions_of_lists_or_objects_is_refused_before_any_is_made(part: bytes) -> None:
    body = bytearray(
        b'{"tasks":[{"data":[' + part * (MAX_CONTAINERS // (part.count(b"[") + part.count(b"{")) + 1)
    )
    for parse in (parse_tasks, parse_object):
        with pytest.raises(
            RequestTooLarge,
            match="lists and objects .* maximum is 2,000,000 and 20,000,000. Send fewer tasks per request",
        ):
            asyncio.run(parse(body))


def test_a_body_of_too_many_numbers_is_refused() -> None:
    with pytest.raises(RequestTooLarge, match="20,000,001 other values"):
        asyncio.run(parse_object(bytearray(b'{"a":[1' + b",1" * (MAX_VALUES + 1) + b"]}")))


def test_as_many_tasks_as_label_studio_sends_are_read() -> None:
    task = (
        b'{"id":1,"data":{"review":"good, bad [sic]"},"meta":{},"annotations":[],"predictions":[],'
        b'"comment_authors":[]}'
    )
    body = bytearray(b'{"tasks":[' + b",".join([task] * 50_000) + b"]}")
    assert len(asyncio.run(parse_tasks(body))["tasks"]) == 50_000
