"""The text of a task: fields, paths, several fields in one value, lists, paragraphs."""

from typing import Any

import pytest

from server.label_studio.object_tags import TextField, text_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"review": "good"}, "good"),
        ({"review": ""}, ""),
        ({"review": 10}, "10"),
        ({"review": 2.5}, "2.5"),
        ({"review": ["good", 10]}, "good\n10"),
        ({"review": []}, ""),
        ({"review": None}, None),
        ({"review": {"text": "good"}}, None),
        ({"review": [{"text": "good"}]}, None),
        ({"review": True}, None),
        ({}, None),
        (None, None),
        ("review", None),
    ],
)
def test_the_text_of_a_task(data: Any, expected: str | None) -> None:
    assert text_of(data, "review") == expected


@pytest.mark.parametrize(
    ("value", "data", "expected"),
    [
        ("$a.b", {"a": {"b": "deep"}}, "deep"),
        ("$a.b", {"a.b": "flat", "a": {"b": "deep"}}, "flat"),
        ("$a[1].b", {"a": [{}, {"b": "second"}]}, "second"),
        ("$a[7]", {"a": ["one"]}, None),
        ("$a[" + "9" * 5_000 + "]", {"a": ["one"]}, None),
        ("$a.b.c", {"a": {"b": "text"}}, None),
        ("$title: $body", {"title": "Film", "body": "Good."}, "Film: Good."),
        ("$title: $body", {"body": "Good."}, ": Good."),
        ("$title: $body", {}, None),
        ("Review of $film.name.", {"film": {"name": "It"}}, "Review of It."),
        ("$größe", {"größe": 4}, "4"),
    ],
)
def test_paths_and_several_fields_in_one_value(value: str, data: Any, expected: str | None) -> None:
    assert TextField("t", "text", value).text(data) == expected


def test_the_columns_that_a_value_may_begin_with() -> None:
    assert TextField("t", "text", "$a.b[0]").columns == ("a.b[0]", "a")
    assert TextField("t", "text", "$title: $body").columns == ("title", "body")


def test_paragraphs_are_read_line_by_line() -> None:
    source = TextField("t", "paragraphs", "$talk", text_key="says")
    assert (
        source.text({"talk": [{"who": "A", "says": "Hello."}, {"who": "B", "says": "Bye."}]})
        == "Hello.\nBye."
    )
    assert source.text({"talk": [{"who": "A"}]}) is None
    assert source.text({"talk": "plain"}) == "plain"
