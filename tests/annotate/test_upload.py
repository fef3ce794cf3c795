"""Uploading stores each prediction once, whatever Label Studio refuses, skips or loses the response of."""

from dataclasses import dataclass, field

import pytest

from server.annotate.upload import GONE, SKIPPED, Item, Uploader
from server.errors import LabelStudioRefused, LabelStudioUnreachable


@dataclass
class Studio:
    """A Label Studio that stores predictions.

    It silently skips the `invalid` tasks, or refuses their list if `strict`, and fails on those in `poison`.
    `failures` come before anything is stored, `lost_responses` after.
    """

    tasks: set[int]
    invalid: set[int] = field(default_factory=set)
    strict: bool = False
    poison: set[int] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    lost_responses: list[Exception] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    posts: int = 0

    def post(self, items: list[Item]) -> int:
        self.posts += 1
        if self.failures:
            raise self.failures.pop()
        ids = [item["task"] for item in items]
        if not self.tasks.issuperset(ids):
            raise LabelStudioRefused("invalid task field", 400)
        if self.poison.intersection(ids):
            raise LabelStudioRefused("could not convert", 500)
        if self.strict and self.invalid.intersection(ids):
            raise LabelStudioRefused("Invalid value", 400)
        kept = [number for number in ids if number not in self.invalid]
        self.stored += kept
        if self.lost_responses:
            raise self.lost_responses.pop()
        return len(kept)

    def missing(self, ids: list[int]) -> set[int]:
        return self.tasks.intersection(ids).difference(self.stored)

    def store(self, count: int) -> dict[int, str]:
        items = [
            {"task": number, "model_version": "v", "score": 0.5, "result": []} for number in range(count)
        ]
        return Uploader(self.post, self.missing, self.pauses.append)(items)


def test_valid_predictions_are_stored_in_one_request() -> None:
    studio = Studio(set(range(100)))
    assert studio.store(100) == {}
    assert (studio.stored, studio.posts) == (list(range(100)), 1)


def test_deleted_tasks_are_left_out() -> None:
    studio = Studio(set(range(100)) - {0, 50, 51})
    assert studio.store(100) == dict.fromkeys((0, 50, 51), GONE)
    assert (sorted(studio.stored), studio.posts) == (sorted(studio.tasks), 2)


def test_a_list_of_deleted_tasks_only() -> None:
    assert Studio(set()).store(3) == dict.fromkeys(range(3), GONE)


def test_refused_predictions_are_found_and_the_rest_stored() -> None:
    studio = Studio(set(range(100)) - {7}, invalid={20, 21}, strict=True)
    assert studio.store(100) == {7: GONE, 20: "Invalid value", 21: "Invalid value"}
    assert sorted(studio.stored) == sorted(studio.tasks - {20, 21})


def test_a_prediction_that_fails_label_studio_is_found() -> None:
    studio = Studio(set(range(100)), poison={42})
    assert studio.store(100) == {42: "could not convert"}
    assert sorted(studio.stored) == sorted(studio.tasks - {42})
    assert set(studio.pauses) == {1.0, 2.0}


def test_predictions_that_are_skipped_silently_are_found() -> None:
    studio = Studio(set(range(100)), invalid={99, 3})
    assert studio.store(100) == {3: SKIPPED, 99: SKIPPED}
    assert studio.posts == 1


@pytest.mark.parametrize(
    "failure",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("busy", 503), LabelStudioRefused("locked", 500)],
)
def test_what_was_stored_before_a_lost_response_is_not_sent_again(failure: Exception) -> None:
    studio = Studio(set(range(100)), lost_responses=[failure])
    assert studio.store(100) == {}
    assert (sorted(studio.stored), studio.posts, studio.pauses) == (list(range(100)), 1, [1.0])


@pytest.mark.parametrize(
    "failure",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("slow down", 429), LabelStudioRefused("locked", 500)],
)
def test_what_was_not_stored_is_sent_again(failure: Exception) -> None:
    studio = Studio(set(range(100)), failures=[failure, failure])
    assert studio.store(100) == {}
    assert (sorted(studio.stored), studio.pauses) == (list(range(100)), [1.0, 2.0])


def test_an_internal_error_after_other_failures_is_retried() -> None:
    gone, locked = LabelStudioUnreachable("gone"), LabelStudioRefused("locked", 500)
    studio = Studio(set(range(3)), failures=[locked, locked, gone, gone])
    assert studio.store(3) == {}
    assert (studio.posts, len(studio.pauses)) == (5, 4)


@pytest.mark.parametrize(
    "failure",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("no", 403), LabelStudioRefused("busy", 503)],
)
def test_a_lasting_failure_ends_the_run(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        Studio(set(range(4)), failures=[failure] * 6).store(4)
