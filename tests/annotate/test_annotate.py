"""The rules of `prelabel annotate` that need no Label Studio: which tasks are asked for, what a push makes of
refusals, what a backend's answers mean.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from server.annotate.backend_source import BackendSource
from server.annotate.bisect_batch import REFUSALS, BatchRefused, bisect
from server.annotate.prediction_source import NO_ANSWER, PredictionSource
from server.annotate.task_query import MissingPredictions, chosen_tasks, tab_passes, version_passes
from server.annotate.upload import GONE, LEFT_OUT, Item, Uploader
from server.errors import BackendFailed, BadSetting, LabelStudioRefused, LabelStudioUnreachable
from server.label_studio.predictions import Prediction

LETTERS = {"filter": "filter:tasks:data.review", "operator": "contains", "type": "String", "value": "film"}
EMPTY = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}


@pytest.mark.parametrize(("bad", "most"), [(set(), 1), ({0}, 30), ({999}, 30), ({3, 500, 501}, 70)])
def test_halving_finds_the_bad_ones(bad: set[int], most: int) -> None:
    done: list[int] = []
    asked = []

    def attempt(part: list[int]) -> None:
        asked.append(len(part))
        if bad.intersection(part):
            raise BatchRefused("bad")
        done.extend(part)

    assert list(bisect(list(range(1000)), attempt)) == [(number, "bad") for number in sorted(bad)]
    assert done == [number for number in range(1000) if number not in bad]
    assert len(asked) <= most


def test_halving_gives_up_where_all_is_refused() -> None:
    asked = []

    def attempt(part: list[int]) -> None:
        asked.append(len(part))
        raise BatchRefused("nothing is taken")

    assert sorted(number for number, _ in bisect(list(range(100_000)), attempt)) == list(range(100_000))
    assert len(asked) < 2 * REFUSALS


@dataclass
class Studio:
    """A Label Studio that stores each prediction that comes, but for what it is told. `losing`: answers that
    are lost after the storing.
    """

    tasks: set[int]
    invalid: set[int] = field(default_factory=set)
    strict: bool = False
    poison: set[int] = field(default_factory=set)
    troubles: list[Exception] = field(default_factory=list)
    losing: list[Exception] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    posts: int = 0

    def post(self, items: list[Item]) -> int:
        self.posts += 1
        if self.troubles:
            raise self.troubles.pop()
        ids = [item["task"] for item in items]
        if not self.tasks.issuperset(ids):
            raise LabelStudioRefused("invalid task field", 400)
        if self.poison.intersection(ids):
            raise LabelStudioRefused("could not convert", 500)
        if self.strict and self.invalid.intersection(ids):
            raise LabelStudioRefused("Invalid value", 400)
        kept = [number for number in ids if number not in self.invalid]
        self.stored += kept
        if self.losing:
            raise self.losing.pop()
        return len(kept)

    def lacking(self, ids: list[int]) -> set[int]:
        return self.tasks.intersection(ids).difference(self.stored)

    def store(self, count: int) -> dict[int, str]:
        items = [
            {"task": number, "model_version": "v", "score": 0.5, "result": []} for number in range(count)
        ]
        return Uploader(self.post, self.lacking, self.waited.append)(items)


def test_one_push_when_all_is_well() -> None:
    studio = Studio(set(range(100)))
    assert studio.store(100) == {}
    assert (studio.stored, studio.posts) == (list(range(100)), 1)


def test_tasks_that_are_gone_are_left_out() -> None:
    studio = Studio(set(range(100)) - {0, 50, 51})
    assert studio.store(100) == dict.fromkeys((0, 50, 51), GONE)
    assert (sorted(studio.stored), studio.posts) == (sorted(studio.tasks), 2)


def test_a_list_of_nothing_but_gone_tasks() -> None:
    assert Studio(set()).store(3) == dict.fromkeys(range(3), GONE)


def test_refused_predictions_are_found_and_the_rest_stored() -> None:
    studio = Studio(set(range(100)) - {7}, invalid={20, 21}, strict=True)
    assert studio.store(100) == {7: GONE, 20: "Invalid value", 21: "Invalid value"}
    assert sorted(studio.stored) == sorted(studio.tasks - {20, 21})


def test_what_label_studio_chokes_on_is_found() -> None:
    studio = Studio(set(range(100)), poison={42})
    assert studio.store(100) == {42: "could not convert"}
    assert sorted(studio.stored) == sorted(studio.tasks - {42})
    assert set(studio.waited) == {1.0, 2.0}


def test_predictions_that_are_left_out_without_a_word_are_found() -> None:
    studio = Studio(set(range(100)), invalid={99, 3})
    assert studio.store(100) == {3: LEFT_OUT, 99: LEFT_OUT}
    assert studio.posts == 1


@pytest.mark.parametrize(
    "trouble",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("busy", 503), LabelStudioRefused("locked", 500)],
)
def test_what_a_lost_answer_stored_is_not_sent_again(trouble: Exception) -> None:
    studio = Studio(set(range(100)), losing=[trouble])
    assert studio.store(100) == {}
    assert (sorted(studio.stored), studio.posts, studio.waited) == (list(range(100)), 1, [1.0])


@pytest.mark.parametrize(
    "trouble",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("slow down", 429), LabelStudioRefused("locked", 500)],
)
def test_what_was_not_stored_is_sent_again(trouble: Exception) -> None:
    studio = Studio(set(range(100)), troubles=[trouble, trouble])
    assert studio.store(100) == {}
    assert (sorted(studio.stored), studio.waited) == (list(range(100)), [1.0, 2.0])


@pytest.mark.parametrize(
    "trouble",
    [LabelStudioUnreachable("gone"), LabelStudioRefused("no", 403), LabelStudioRefused("busy", 503)],
)
def test_trouble_that_stays_ends_the_run(trouble: Exception) -> None:
    with pytest.raises(type(trouble)):
        Studio(set(range(4)), troubles=[trouble] * 6).store(4)


def test_or_takes_a_pass_an_item() -> None:
    assert tab_passes(None) == [()]
    assert tab_passes({"conjunction": "and", "items": [LETTERS, EMPTY]}) == [(LETTERS, EMPTY)]
    assert tab_passes({"conjunction": "or", "items": [LETTERS, EMPTY]}) == [(LETTERS,), (EMPTY,)]
    assert tab_passes({"conjunction": "or", "items": []}) == [()]


def test_the_version_filter_is_a_list_and_longer_versions_are_looked_at() -> None:
    [one] = version_passes([(LETTERS,)], "v1", ["v1", "v2", "v"])
    assert (one.filters[0], one.filters[1]["value"], one.look) == (LETTERS, ["v1"], False)
    assert [one.look for one in version_passes([()], "v1", ["V1-margin"])] == [False, True]


def test_a_tab_of_another_project_is_refused() -> None:
    def missing(path: str) -> Any:
        raise LabelStudioRefused("Not found", 404)

    with pytest.raises(BadSetting, match="belongs to project 8"):
        chosen_tasks(lambda path: {"project": 8, "data": {}}, 7, 3, only_unlabeled=False)
    with pytest.raises(BadSetting, match="no such tab"):
        chosen_tasks(missing, 7, 3, only_unlabeled=False)
    assert chosen_tasks(lambda path: {"project": 7, "data": {}}, 7, 3, only_unlabeled=True) == [(EMPTY,)]


@dataclass
class Listing:
    """Label Studio's list of tasks, for the filters that `MissingPredictions` makes. Versions by task id; what `listed`
    ends with is stored meanwhile.
    """

    versions: dict[int, list[str]]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, **parameters: Any) -> Any:
        assert path == "tasks"
        self.asked.append(parameters)
        items = json.loads(parameters["query"])["filters"]["items"]
        # the filter on a version repeats a task for every prediction that it finds
        ids = [number for number in sorted(self.versions) for _ in range(self._times(number, items))]
        tasks = [
            {
                "id": number,
                "data": {"review": str(number)},
                "predictions": [{"model_version": version} for version in self.versions[number]],
            }
            for number in ids[: parameters["page_size"]]
        ]
        return {"total": len(ids), "tasks": tasks}

    def _times(self, number: int, items: list[dict[str, Any]]) -> int:
        times = 1
        for item in items:
            value = item["value"]
            if item["filter"] == "filter:tasks:id":
                times *= {
                    "greater": number > value,
                    "greater_or_equal": number >= value,
                    "less_or_equal": number <= value,
                }[item["operator"]]
            else:
                [version] = value
                hits = sum(version in other for other in self.versions[number])
                times *= hits if item["operator"] == "contains" else not hits
        return times


def test_paging_by_id_misses_nothing_while_predictions_are_stored() -> None:
    studio = Listing({number: [] for number in range(1, 26)})
    lacking = MissingPredictions(studio.get, 7, "v", [()], page=10)
    found = []
    for page in lacking.pages():
        found += [task["id"] for task in page]
        for task in page:
            studio.versions[task["id"]].append("v")
    assert found == list(range(1, 26))
    assert (lacking.found, len(studio.asked)) == (25, 3)
    assert list(lacking.pages()) == []


def test_a_version_inside_another_one_is_told_apart() -> None:
    studio = Listing(
        {
            1: ["v-margin"],
            2: ["v-margin", "v"],
            3: [],
            4: ["v"],
            5: ["v-margin", "v-entropy"],
            6: ["v-margin"],
        }
    )
    lacking = MissingPredictions(studio.get, 7, "v", [()], ["v", "v-margin", "v-entropy"], page=2)
    assert sorted(task["id"] for page in lacking.pages() for task in page) == [1, 3, 5, 6]
    assert lacking.among([2, 3, 5, 99]) == {3, 5}
    assert lacking.among([]) == set()


def test_the_union_of_passes_lists_a_task_once() -> None:
    studio = Listing({number: [] for number in range(1, 8)})
    passes: list[tuple[dict[str, Any], ...]] = [
        ({"filter": "filter:tasks:id", "operator": "less_or_equal", "value": 5},),
        ({"filter": "filter:tasks:id", "operator": "greater", "value": 2},),
    ]
    lacking = MissingPredictions(studio.get, 7, "v", passes, page=3)
    assert [task["id"] for page in lacking.pages() for task in page] == list(range(1, 8))
    assert lacking.total() is None


def test_a_bad_task_costs_only_its_own_prediction() -> None:
    def predict(tasks: list[dict[str, Any]]) -> list[Prediction | None]:
        if any(task["data"] == "bad" for task in tasks):
            raise BatchRefused("the model call failed")
        return [None if task["data"] == "none" else {"result": []} for task in tasks]

    tasks = [{"id": number, "data": {3: "bad", 5: "none"}.get(number, "good")} for number in range(10)]
    found, failed = PredictionSource("v", predict, 4).answers(tasks)
    assert list(found) == [0, 1, 2, 4, 6, 7, 8, 9]
    assert failed == {3: "the model call failed", 5: NO_ANSWER}


@dataclass
class Answering(httpx.BaseTransport):
    """A backend without a network: its answers are those of `handler`."""

    handler: Callable[[httpx.Request], httpx.Response]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self.handler(request)


def backend(handler: Callable[[httpx.Request], httpx.Response], waited: list[float]) -> BackendSource:
    """A backend that answers by `handler`. Its client is the test's to close."""
    return BackendSource("http://backend", httpx.Client(transport=Answering(handler)), {}, waited.append)


def test_a_busy_backend_is_asked_again_when_it_says() -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.Response(200, json={"model_version": "v"}),
    ]
    waited: list[float] = []
    made = backend(lambda request: answers.pop(0), waited)
    with made.client:
        assert made.source(1, "<View/>").version == "v"
    assert waited == [7.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(422, json={"detail": "It has no <Choices> tag."}), "It has no <Choices> tag"),
        (httpx.Response(500), "500"),
        (httpx.Response(401), "--basic-auth"),
        (httpx.Response(200, json={}), "model_version"),
        (httpx.Response(200, text="hello"), "not a JSON object"),
        (httpx.Response(503, json={"detail": "stopping"}), "stopping"),
    ],
)
def test_a_backend_that_cannot_be_set_up(answer: httpx.Response, words: str) -> None:
    made = backend(
        lambda request: httpx.Response(answer.status_code, content=answer.content, headers=answer.headers), []
    )
    with made.client, pytest.raises(BackendFailed, match=words):
        made.source(1, "<View/>")


def test_what_a_backends_answers_mean() -> None:
    region = {"from_name": "a", "to_name": "b", "type": "choices", "value": {"choices": ["c"]}}
    results: list[Any] = [
        {"result": [region], "score": 0.5, "model_version": "v"},
        {},
        {"error": "no"},
        [],
        [{"result": []}, {"result": [region]}],
        None,
        {"result": [], "score": "high"},
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, json={"model_version": "v"} if request.url.path == "/setup" else {"results": results}
        )

    made = backend(handler, [])
    with made.client:
        tasks = [{"id": number, "data": {"text": "half a character: \ud800"}} for number in range(7)]
        found, failed = made.source(1, "<View/>").answers(tasks)
        results[0]["model_version"] = "w"
        with pytest.raises(BackendFailed, match="as w"):
            made.source(1, "<View/>").answers(tasks)
    assert found == {
        0: {"model_version": "v", "score": 0.5, "result": [region]},
        4: {"model_version": "v", "score": None, "result": []},
    }
    assert failed == dict.fromkeys((1, 2, 3, 5, 6), NO_ANSWER)
