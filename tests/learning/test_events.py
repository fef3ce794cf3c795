"""What a webhook says: annotations with the texts and labels that training would read."""

import json
from typing import Any

import pytest

from server.api.webhook_codec import decode_event, decode_large_event
from server.errors import BadLabelConfig, BadRequest, RequestTooLarge
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.learning.annotations import Annotation
from server.learning.events import Event, EventReader, Kind, number, time_of
from server.learning.questions import Questions
from tests.learning import webhooks
from tests.learning.webhooks import EARLY, created, created_together, project

UTC = "2026-01-01T10:00:00.123456+00:00"
SEVERAL = TUTORIAL_CONFIG.replace('choice="single"', 'choice="multiple"')


def event(body: object) -> Event:
    return decode_event(bytearray(json.dumps(body).encode()))


def read(body: object, config: str = TUTORIAL_CONFIG, max_text: int = 1_000) -> list[Annotation]:
    return EventReader(Questions().read(config, None), max_text, "films-1").annotations(event(body))


def test_an_annotation_has_the_text_of_its_task_and_its_labels() -> None:
    expected = Annotation(3, 30, 1, "a fine film", ("Positive",), UTC, "films-1")
    assert read(created(3, "Positive")) == [expected]
    assert event(created(3, "Positive")).project_id == 7
    assert event(created(3, "Positive")).config == TUTORIAL_CONFIG
    assert event(created(3, "Positive")).kind is Kind.STORE


def test_annotations_made_together_come_with_their_tasks_in_any_order() -> None:
    body = created_together(1, 2, 3)
    body["task"].reverse()
    assert [(each.id, each.task, each.text) for each in read(body)] == [
        (1, 10, "a fine film 1"),
        (2, 20, "a fine film 2"),
        (3, 30, "a fine film 3"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        created(1),
        created(1, "Positive", was_cancelled=True),
        created(1, "Excellent"),
        created(1, "Positive", "Negative"),
        created(1, "Positive", text=None),
        created(1, "Positive", text="x" * 1_001),
        created(1, "Positive", result="no list"),
        created(1, "Positive", result=[None, 3, {"from_name": "sentiment", "value": 4}]),
        created(1, "Positive", result=[{"from_name": "other", "value": {"choices": ["Positive"]}}]),
        created(1, "Positive") | {"task": None},
        created(1, "Positive") | {"task": webhooks.task(11)},
    ],
)
def test_an_annotation_that_nothing_can_be_learned_from_has_no_labels(body: Any) -> None:
    (annotation,) = read(body)
    assert (annotation.id, annotation.labels, annotation.updated) == (1, (), UTC)


def test_several_labels_where_the_control_takes_several() -> None:
    (annotation,) = read(created(1, "Positive", "Negative", "Excellent"), SEVERAL)
    assert annotation.labels == ("Negative", "Positive")


def test_an_annotator_is_a_number_an_object_or_unknown() -> None:
    by = [3, {"id": 4, "email": "a@b.example"}, None, "x", True, {"id": None}]
    bodies = [created(1, "Positive", completed_by=each) for each in by]
    assert [read(body)[0].annotator for body in bodies] == [3, 4, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None}, {"id": "1"}, {"id": 0}, {"id": 2**63}, {"id": True}, {"id": 1.0},
        {"task": None}, {"task": "10"}, {"task": -1},
        {"updated_at": None}, {"updated_at": "yesterday"}, {"updated_at": 5},
        {"updated_at": "0001-01-01T00:00:00+23:59"},
    ],
)  # fmt: skip
def test_without_a_number_a_task_or_a_time_it_is_left_out(fields: dict[str, Any]) -> None:
    body = created_together(1, 2)
    body["annotation"][0] |= fields
    assert [each.id for each in read(body)] == [2]


def test_half_a_surrogate_pair_can_be_stored() -> None:
    (annotation,) = read(created(1, "Positive", text="fine \ud83d film \U0001f600"))
    assert annotation.text == "fine \ufffd film \U0001f600"
    annotation.text.encode()


def test_deleted_annotations_and_tasks() -> None:
    assert event(webhooks.deleted(4, 5)).annotation_ids() == [4, 5]
    assert event({"action": "ANNOTATION_DELETED", "annotation": {"id": 6}}).annotation_ids() == [6]
    assert event(webhooks.tasks_deleted(4, 5)).task_ids() == {4, 5}
    odd: dict[str, Any] = {"annotations": [{"id": "4"}, {}, None, 5, {"id": 6}], "tasks": {"id": 3}}
    assert (event(odd).annotation_ids(), event(odd).task_ids()) == ([6], {3})


def test_actions() -> None:
    kinds = {
        "ANNOTATION_UPDATED": Kind.STORE,
        "ANNOTATIONS_CREATED": Kind.STORE,
        "ANNOTATIONS_DELETED": Kind.DELETE,
        "TASKS_DELETED": Kind.DELETE_TASKS,
        "START_TRAINING": Kind.TRAIN,
        "TASKS_CREATED": Kind.OTHER,
    }
    assert {action: event({"action": action}).kind for action in kinds} == kinds
    no_actions: list[Any] = [None, 3, ["START_TRAINING"], {}]
    for odd in no_actions:
        assert event({"action": odd}).kind is Kind.OTHER


@pytest.mark.parametrize("odd", [{}, {"project": None}, {"project": {}}, {"project": {"id": "7"}}])
def test_a_webhook_without_a_project(odd: dict[str, Any]) -> None:
    assert (event(odd).project_id, event(odd).config) == (None, None)


def test_a_project_may_be_its_number() -> None:
    assert event({"project": 7}).project_id == 7
    assert event({"project": {"id": 7, "label_config": " "}}).config is None


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"3", b"null", b'{"action": "A"', b'{"a": "\xff"}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_event(bytearray(body))
    with pytest.raises(BadRequest):
        decode_large_event(bytearray(body), 1_000)


@pytest.mark.parametrize("order", [("annotation", "project", "task"), ("task", "project", "annotation")])
def test_a_large_body_means_the_same(order: tuple[str, ...]) -> None:
    whole = created_together(*range(1, 300), text="fine \ud83d")
    body = bytearray(json.dumps({"action": whole["action"]} | {name: whole[name] for name in order}).encode())
    reader = EventReader(Questions().read(TUTORIAL_CONFIG, None), 1_000, "")
    large = decode_large_event(body, 1_000, 700)
    assert reader.annotations(large) == reader.annotations(decode_event(body))
    assert (len(reader.annotations(large)), large.project_id) == (299, 7)


def test_a_large_body_with_a_field_twice_means_the_last() -> None:
    body = bytearray(b'{"annotations": [{"id": 1}, {"id": 2}], "annotations": [{"id": 3}]}')
    assert decode_event(body).annotation_ids() == [3]
    assert decode_large_event(body, 1_000, 1).annotation_ids() == [3]


def test_a_large_body_with_a_broken_element_is_refused() -> None:
    for body in (b'{"annotation": [{"id": 1}, {"id": x}]}', b'{"task": [{"id": 1}, , {"id": 2}]}'):
        found = decode_large_event(bytearray(body), 1_000, 1)
        with pytest.raises(BadRequest):
            assert {*found.annotation_ids()} == found.task_ids()


def test_a_text_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(RequestTooLarge):
        decode_large_event(bytearray(json.dumps(created_together(1, text="x" * 2**21)).encode()), 1_000)


def test_the_control_is_named_if_there_are_several() -> None:
    choices = '<Choices name="{}" toName="text"><Choice value="a"/><Choice value="b"/></Choices>'
    config = f'<View><Text name="text" value="$t"/>{choices.format("x")}{choices.format("y")}</View>'
    questions = Questions()
    for _ in range(2):
        with pytest.raises(BadLabelConfig, match=r'several controls: "x", "y". Name one in the extra'):
            questions.read(config, None)
    assert questions.read(config, "y").answers.name == "y"
    with pytest.raises(BadLabelConfig, match="no control 'mood'"):
        questions.read(TUTORIAL_CONFIG, "mood")


def test_numbers_and_times() -> None:
    values: list[Any] = [1, 2**63 - 1, 2**63, -1, None, []]
    assert [number(each) for each in values] == [1, 2**63 - 1, *[None] * 4]
    assert time_of("2026-01-01T10:00:00") == "2026-01-01T10:00:00.000000+00:00"
    assert time_of("2026-01-01T12:00:00.5+02:00") == "2026-01-01T10:00:00.500000+00:00"
    assert time_of(EARLY) == UTC
    assert project()["created_at"] == EARLY
