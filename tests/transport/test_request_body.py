"""Large bodies of requests for predictions, and bodies that would become far larger in memory."""

import asyncio
import tracemalloc
from typing import Any, TypedDict

import pytest
from starlette.requests import Request
from starlette.types import Message

from server.api.ml_backend_codec import PredictRequest, parse_tasks, task_data
from server.errors import BadRequest, RequestTooLarge
from server.transport.admission import AdmissionController
from server.transport.json_codec import PARSE_IN_THREAD_BYTES, parse_fields
from server.transport.request_body import MAX_CONTROL_BODY, BodyLimits, BodyReader

TASK = (
    b'{"id":1,"data":{"review":"good, bad [sic]"},"meta":{},"annotations":[],"predictions":[],'
    b'"comment_authors":[]}'
)
FILL = b'"' + b"x" * PARSE_IN_THREAD_BYTES + b'"'


class Fields(TypedDict, total=False):
    a: Any
    b: Any


def data_of(body: bytes) -> list[Any]:
    return [*task_data(asyncio.run(parse_tasks(bytearray(body), 1_000_000, 100_000)), 100_000)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_do_not_pass_the_count_of_values(encoding: str) -> None:
    body = ('{"a":[' + "[]," * 100_000 + "1]}").encode(encoding)
    with pytest.raises(BadRequest):
        asyncio.run(parse_fields(bytearray(body), Fields))


def test_an_empty_body_is_an_error_that_says_so() -> None:
    with pytest.raises(BadRequest, match="The body is empty; expected a JSON object"):
        asyncio.run(parse_fields(bytearray(), Fields))


@pytest.mark.parametrize("part", [b"[],", b'{"a":{}},'])
def test_a_body_of_many_lists_or_objects_is_refused_before_any_is_made(part: bytes) -> None:
    body = b'{"tasks":[{"data":[%b1]}]}' % (part * 100_000)
    with pytest.raises(
        RequestTooLarge, match="lists, objects and fields.* the maximum is 50,000 and 100,000"
    ):
        data_of(body)
    with pytest.raises(
        RequestTooLarge, match="lists, objects and fields.* the maximum is 50,000 and 100,000"
    ):
        asyncio.run(parse_fields(bytearray(b'{"a":%b}' % body), Fields))


def test_a_body_that_only_opens_lists_is_refused() -> None:
    with pytest.raises(BadRequest, match="brackets or quotes do not match"):
        data_of(b'{"tasks":' + b"[" * PARSE_IN_THREAD_BYTES)


def test_a_body_of_too_many_numbers_is_refused() -> None:
    with pytest.raises(RequestTooLarge, match="100,001 values"):
        asyncio.run(parse_fields(bytearray(b'{"a":[1' + b",1" * 100_001 + b"]}"), Fields))


MANY_FIELDS = b"{%b}" % b",".join(b'"%d":1' % number for number in range(60_000))


def test_a_field_with_too_many_fields_is_refused() -> None:
    with pytest.raises(RequestTooLarge, match="60,001 lists, objects and fields, and 59,999 values"):
        asyncio.run(parse_fields(bytearray(b'{"a":%b}' % MANY_FIELDS), Fields))
    with pytest.raises(RequestTooLarge, match="60,00. lists, objects and fields"):
        data_of(b'{"tasks":[{"data":%b}]}' % MANY_FIELDS)


def test_fields_that_are_not_read_are_not_built_whatever_they_hold() -> None:
    body = bytearray(b'{"a":"x","other":%b}' % MANY_FIELDS)
    tracemalloc.start()
    try:
        assert asyncio.run(parse_fields(body, Fields)) == {"a": "x", "b": None}
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()


def test_fields_are_read_as_leniently_as_a_whole_body() -> None:
    body = bytearray(b'{"a":"\\ud800","b":[NaN,1]}')
    assert str(asyncio.run(parse_fields(body, Fields))) == "{'a': '\\ud800', 'b': [nan, 1]}"
    with pytest.raises(RequestTooLarge, match="60,0.. lists, objects and fields"):
        asyncio.run(parse_fields(bytearray(b'{"a":NaN,"other":%b}' % MANY_FIELDS), Fields))


def test_as_many_tasks_as_label_studio_sends_are_read() -> None:
    body = b'{"tasks":[%b],"label_config":"x"}' % b",".join([TASK] * 50_000)
    assert data_of(body) == [{"review": "good, bad [sic]"}] * 50_000


@pytest.mark.parametrize("tasks", [b"7", b"null", b"{}", b'"x"'])
def test_a_large_body_without_a_list_of_tasks_is_refused(tasks: bytes) -> None:
    with pytest.raises(BadRequest, match="tasks: expected a list of tasks"):
        data_of(b'{"other":%b,"tasks":%b}' % (FILL, tasks))


def test_tasks_of_a_large_body_that_are_not_as_usual_are_read_as_those_of_a_small_one() -> None:
    tasks = b'{"tasks":[7,null,{},{"data":NaN},{"data":{"review":"\\ud800"}},[]],"label_config":7%b}'
    small, large = data_of(tasks % b""), data_of(tasks % (b',"other":' + FILL))
    assert str(small) == str(large)
    assert len(small) == 6


def test_a_task_of_a_large_body_that_is_not_json_is_refused() -> None:
    with pytest.raises(BadRequest, match="The body is not JSON"):
        data_of(b'{"tasks":[{"data":%b},{"data":nothing}]}' % FILL)


def test_the_last_of_two_lists_of_tasks_counts() -> None:
    assert data_of(b'{"tasks":[{"data":%b}],"tasks":[{"data":2}],"label_config":"x"}' % FILL) == [2]


def test_the_configuration_of_a_large_body_is_read() -> None:
    body = b'{"project":"1.1","tasks":[{"data":%b}],"label_config":"<View/>"}' % FILL
    fields = asyncio.run(parse_tasks(bytearray(body), 1_000_000, 100_000))
    assert (fields["project"], fields["label_config"]) == ("1.1", "<View/>")
    assert {*fields} == {*PredictRequest.__struct_fields__}


@pytest.mark.anyio
async def test_a_control_request_keeps_its_slot_until_it_is_handled() -> None:
    admission = AdmissionController.for_control_requests(MAX_CONTROL_BODY)
    bodies = BodyReader(BodyLimits(MAX_CONTROL_BODY, pause=30, timeout=30), admission)

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"a": 1}', "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    async with bodies.json_fields(request, Fields) as body:
        assert (body, admission.requests, admission.bytes) == ({"a": 1, "b": None}, 1, 8)
    assert (admission.requests, admission.bytes) == (0, 0)
