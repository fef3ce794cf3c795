"""Predictions in Label Studio's form."""

from typing import Any

import numpy as np
import pytest

from server.arrays import Floats
from server.label_studio.labeling_config import LabelingPlan, read_plan
from server.label_studio.predictions import Prediction, predictions
from server.scoring import DEFAULT_SCORING, Scoring, scores_of

ONE = read_plan(
    '<View><Text name="text" value="$review"/><Choices name="sentiment" toName="text">'
    '<Choice value="neg"/><Choice value="pos"/></Choices></View>',
    ("neg", "pos"),
    {},
)
TWO = read_plan(
    """<View><Text name="title" value="$title"/><Text name="body" value="$body"/>
    <Choices name="first" toName="title"><Choice value="neg"/><Choice value="pos"/></Choices>
    <Choices name="all" toName="body" choice="multiple"><Choice value="neg"/><Choice value="pos"/></Choices>
    <Rating name="stars" toName="body"/></View>""",
    ("neg", "pos"),
    {"neg": "1", "pos": "5"},
)


def floats(*numbers: float) -> Floats:
    return np.array(numbers, dtype=np.float32)


def prediction(
    plan: LabelingPlan,
    texts: list[str | None],
    answers: list[Floats | None],
    scoring: Scoring = DEFAULT_SCORING,
) -> Prediction:
    """Of one task, with an answer for each text."""
    present = [answer for answer in answers if answer is not None]
    probabilities = np.stack(present) if present else np.zeros((0, 2), dtype=np.float32)
    (given,) = predictions(
        plan, "m-1", [tuple(texts)], probabilities, scores_of(probabilities, scoring.score), scoring.threshold
    )
    return given


def values(
    plan: LabelingPlan,
    texts: list[str | None],
    answers: list[Floats | None],
    scoring: Scoring = DEFAULT_SCORING,
) -> dict[str, Any]:
    return {
        region["from_name"]: region["value"] for region in prediction(plan, texts, answers, scoring)["result"]
    }


def test_a_prediction_has_the_fields_of_the_tutorials_file() -> None:
    given = prediction(ONE, ["some text"], [floats(0.25, 0.75)])
    (region,) = given["result"]
    assert len(region["id"]) == 10
    assert given == {
        "model_version": "m-1",
        "score": 0.75,
        "result": [
            {
                "id": region["id"],
                "from_name": "sentiment",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": ["pos"]},
            }
        ],
    }


def test_the_same_text_has_the_same_region_id_and_another_text_another() -> None:
    def region_id(text: str) -> str:
        return str(prediction(ONE, [text], [floats(0.9, 0.1)])["result"][0]["id"])

    assert region_id("a") == region_id("a") != region_id("b")
    assert region_id("\ud800")
    assert region_id("good film") == "9aa357879d", "as in files written before"


def test_a_task_without_text_gets_an_empty_result_that_label_studio_stores() -> None:
    assert prediction(ONE, [None], [None]) == {"model_version": "m-1", "score": 0.0, "result": []}


def test_every_control_is_filled_and_the_least_certain_text_gives_the_score() -> None:
    answers: list[Floats | None] = [floats(0.9, 0.1), floats(0.25, 0.75)]
    assert values(TWO, ["t", "b"], answers) == {
        "first": {"choices": ["neg"]},
        "all": {"choices": ["pos"]},
        "stars": {"rating": 5},
    }
    assert prediction(TWO, ["t", "b"], answers)["score"] == pytest.approx(0.75)
    assert values(TWO, [None, "b"], [None, floats(0.25, 0.75)]) == {
        "all": {"choices": ["pos"]},
        "stars": {"rating": 5},
    }


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.2, ["neg", "pos"]), (0.5, ["pos"]), (0.75, ["pos"]), (0.8, None)]
)
def test_of_several_choices_those_at_the_threshold_are_taken(
    threshold: float, expected: list[str] | None
) -> None:
    found = values(TWO, [None, "b"], [None, floats(0.25, 0.75)], Scoring(threshold=threshold))
    assert found.get("all") == ({"choices": expected} if expected else None)
    assert found["stars"] == {"rating": 5}


def test_tasks_are_answered_in_order_and_failed_ones_with_nothing() -> None:
    texts = [("a", None), (None, None), (None, "b"), ("c", "d")]
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0, 0], [0.6, 0.4]], dtype=np.float32)
    scores = scores_of(probabilities, "confidence")
    whole = predictions(TWO, "m-1", texts, probabilities, scores, 0.5)
    assert [[region["from_name"] for region in each["result"]] for each in whole] == [
        ["first"],
        [],
        ["all", "stars"],
        ["first", "all", "stars"],
    ]
    in_part = predictions(TWO, "m-1", texts, probabilities, scores, 0.5, np.array([True, True, False, True]))
    assert in_part == [*whole[:3], {}]
    assert predictions(ONE, "m-1", [], np.zeros((0, 2), dtype=np.float32), np.zeros(0), 0.5) == []
