"""Large bodies: a list is cut out and decoded in slices, to the same values as in one piece."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRequest, RequestTooLarge
from server.transport.json_slices import MAX_PARTS, MAX_REST, MAX_VALUES, cut_list

TEXTS = st.text('ab"\\,:[]{} é', max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def elements(body: bytearray, path: tuple[str, ...], least: int = 1) -> list[Any] | None:
    _, sliced = cut_list(body, path, least)
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
    rest, _ = cut_list(body, ("tasks",), least)
    assert elements(body, ("tasks",), least) == tasks
    assert json.loads(rest) == {**value, "tasks": []}


def test_a_list_inside_of_the_only_object_of_a_list_is_found() -> None:
    body = bytearray(b'{"id": "1", "inputs": [ {"name": "data", "data" : ["a", ["b"]], "x": 1} ], "y": []}')
    assert elements(body, ("inputs", "data")) == ["a", ["b"]]
    assert cut_list(body, ("inputs", "data"))[0] == body.replace(b'["a", ["b"]]', b"[]")


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
            cut_list(bytearray(body), ("tasks",))
        return
    assert cut_list(bytearray(body), ("tasks",)) == (bytearray(body), None)


@pytest.mark.parametrize("end", ["", "]", "}", '"', '"]', "]]", '\\"]}'])
def test_brackets_that_do_not_match_are_refused(end: str) -> None:
    body = bytearray(f'{{"tasks":[1,{{"a":"b{end}'.encode())
    with pytest.raises(BadRequest, match="brackets or quotes do not match"):
        cut_list(body, ("tasks",))


def test_an_escaped_name_is_read_and_the_first_of_two_counts() -> None:
    body = bytearray(b'{"t\\u0061sks":[1],"tasks":[2]}')
    rest, sliced = cut_list(body, ("tasks",))
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
    _, sliced = cut_list(bytearray(f'{{"tasks":[[],{values},2]}}'.encode()), ("tasks",), 2)
    assert sliced is not None
    slices = sliced.slices()
    assert next(slices) == b"[[]]"
    with pytest.raises(RequestTooLarge, match="the maximum is 50,000 and 100,000. Send smaller tasks"):
        next(slices)
    with pytest.raises(RequestTooLarge, match="or the body without its tasks, holds"):
        cut_list(bytearray(f'{{"tasks":[1],"other":{values}}}'.encode()), ("tasks",))


def test_a_rest_of_too_many_bytes_is_refused() -> None:
    body = bytearray(b'{"tasks":[1],"other":"%b"}' % (b"x" * MAX_REST))
    with pytest.raises(RequestTooLarge, match="bytes besides its texts; the maximum is 2,097,152"):
        cut_list(body, ("tasks",))
