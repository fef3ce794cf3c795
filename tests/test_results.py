"""Texts out of tasks, predictions into Label Studio's form."""

from typing import Any

import numpy as np
import pytest

from server.label_studio.config import Target
from server.label_studio.results import empty_prediction, prediction, text_of

TARGET = Target("sentiment", "text", "review", ("neg", "pos"))


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


def test_a_prediction_has_the_fields_of_the_tutorials_file() -> None:
    given = prediction(TARGET, "m-1", "some text", np.array([0.25, 0.75], dtype=np.float32), "confidence")
    (region,) = given["result"]
    assert len(region.pop("id")) == 10
    assert given == {
        "model_version": "m-1",
        "score": 0.75,
        "result": [{"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["pos"]}}],
    }


def test_the_same_text_has_the_same_region_id_and_another_text_another() -> None:
    def region_id(text: str) -> str:
        return str(prediction(TARGET, "m-1", text, np.array([0.9, 0.1], dtype=np.float32), "confidence")["result"][0]["id"])

    assert region_id("a") == region_id("a") != region_id("b")
    assert region_id("\ud800")


def test_an_empty_prediction_is_one_that_label_studio_stores() -> None:
    assert empty_prediction("m-1") == {"model_version": "m-1", "score": 0.0, "result": []}
