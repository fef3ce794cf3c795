"""Large bodies: a list is cut out and decoded in slices, to the same values as in one piece."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRequest, RequestTooLarge
from server.transport.json_slices import (
    MAX_PARTS,
    MAX_REST,
    MAX_UNREAD,
    MAX_VALUES,
    SLICE,
    SlicedList,
    cut_list,
)

TEXTS = st.text('ab"\\,:[]{} é', max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def cut(
    body: bytearray, path: tuple[str, ...] = ("tasks",), least: int = SLICE, max_text: int = 1_000_000
) -> tuple[bytearray, SlicedList | None]:
    return cut_list(body, path, stand_in=b"[]", max_text=max_text, least=least)


def elements(body: bytearray, path: tuple[str, ...], least: int = 1) -> list[Any] | None:
    _, sliced = cut(body, path, least)
    if sliced is None:
        return None
    found = [element for each in sliced.slices() for element in json.loads(each)]
    assert len(found) == len(sliced)
    return found


@given(
    st.dictionaries(TEXTS, VALUES, max_size=3),
    st.lists(VALUES, max_size=6),
    st.dictionaries(TEXTS, VALUES, max_size=3),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_slices_hold_the_elements_and_the_rest_everything_else(
    before: dict[str, Any], tasks: list[Any], after: dict[str, Any], indent: int | None, least: int
) -> None:
    before.pop("tasks", None), after.pop("tasks", None)
    value = {**before, "tasks": tasks, **{name: after[name] for name in after if name not in before}}
    body = bytearray(json.dumps(value, indent=indent).encode())
    rest, _ = cut(body, least=least)
    assert elements(body, ("tasks",), least) == tasks
    assert json.loads(rest) == {**value, "tasks": []}


def test_a_list_inside_of_the_only_object_of_a_list_is_found() -> None:
    body = bytearray(b'{"id": "1", "inputs": [ {"name": "data", "data" : ["a", ["b"]], "x": 1} ], "y": []}')
    assert elements(body, ("inputs", "data")) == ["a", ["b"]]
    assert cut(body, ("inputs", "data"))[0] == body.replace(b'["a", ["b"]]', b"[]")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"7",
        b"{",
        b'{"a"}',
        b'{"a":1}',
        b'{"tasks":7}',
        b'{"tasks":{}}',
        b'{"a":{"tasks":[1]}}',
    ],
)
def test_a_body_without_the_list_stays_as_it_is(body: bytes) -> None:
    if body == b"{":
        with pytest.raises(BadRequest, match="brackets or quotes do not match"):
            cut(bytearray(body))
        return
    assert cut(bytearray(body)) == (bytearray(body), None)


@pytest.mark.parametrize("end", ["", "]", "}", '"', '"]', "]]", '\\"]}'])
def test_brackets_that_do_not_match_are_refused(end: str) -> None:
    body = bytearray(f'{{"tasks":[1,{{"a":"b{end}'.encode())
    with pytest.raises(BadRequest, match="brackets or quotes do not match"):
        cut(body)


def test_an_escaped_name_is_read_and_the_first_of_two_counts() -> None:
    body = bytearray(b'{"t\\u0061sks":[1],"tasks":[2]}')
    rest, sliced = cut(body)
    assert sliced is not None
    assert [*sliced.slices()] == [b"[1]"]
    assert msgspec.json.decode(rest) == {"tasks": [2]}


@pytest.mark.parametrize(
    ("part", "count"), [("[],", MAX_PARTS), ('{"a":1},', MAX_PARTS // 2), ("1,", MAX_VALUES)]
)
def test_an_element_and_a_rest_of_too_many_values_are_refused_before_any_is_made(
    part: str, count: int
) -> None:
    values = "[" + part * (count + 2) + "1]"
    _, sliced = cut(bytearray(f'{{"tasks":[[],{values},2]}}'.encode()), least=2)
    assert sliced is not None
    slices = sliced.slices()
    assert next(slices) == b"[[]]"
    with pytest.raises(RequestTooLarge, match="the maximum is 50,000 and 100,000. Send smaller tasks"):
        next(slices)
    with pytest.raises(RequestTooLarge, match="or the body without its tasks, holds"):
        cut(bytearray(f'{{"tasks":[1],"other":{values}}}'.encode()))


def test_a_rest_of_too_many_bytes_is_refused() -> None:
    body = bytearray(b'{"tasks":[1],"other":"%b"}' % (b"x" * MAX_REST))
    with pytest.raises(RequestTooLarge, match="bytes besides its texts; the maximum is 2,097,152"):
        cut(body)


def test_a_text_longer_than_the_maximum_can_be_is_refused_before_it_is_decoded() -> None:
    longest = 6 * 10 + MAX_UNREAD + SLICE
    fits = bytearray(b'{"tasks":[{"data":"%b"},2]}' % (b"x" * (longest - 20)))
    assert elements(fits, ("tasks",), SLICE) is not None
    body = bytearray(b'{"tasks":[1,{"data":"%b"},2]}' % (b"x" * longest))
    with pytest.raises(RequestTooLarge, match="A task, or a text, has more than 1,048,636 bytes: 6 for each"):
        cut(body, max_text=10)


@pytest.mark.parametrize("key", ['"\\u0074asks"', '"%s"' % ("x" * 3_000_000)])
def test_a_name_is_read_if_it_can_be_the_one_that_is_looked_for(key: str) -> None:
    body = bytearray(f"{{{key}:[1]}}".encode())
    if len(key) < 100:
        assert elements(body, ("tasks",)) == [1]
    else:
        with pytest.raises(RequestTooLarge, match="bytes besides its texts"):
            cut(body)


@pytest.mark.parametrize("tasks", [b"[1, ]", b"[,1]", b"[1, ,2]", b"[ ,]", b"[1}"])
def test_a_list_with_a_missing_element_is_refused_wherever_it_is_cut(tasks: bytes) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        elements(bytearray(b'{"tasks":%b}' % tasks), ("tasks",))
