"""Which tasks are listed: those without the version, each once, while predictions are being stored."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from server.annotate.task_query import MissingPredictions, filters_of_tab, missing_version, select_tasks
from server.errors import BadSetting, LabelStudioRefused

LETTERS = {"filter": "filter:tasks:data.review", "operator": "contains", "type": "String", "value": "film"}
EMPTY = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}


def test_or_takes_a_query_per_filter() -> None:
    assert filters_of_tab(None) == [()]
    assert filters_of_tab({"conjunction": "and", "items": [LETTERS, EMPTY]}) == [(LETTERS, EMPTY)]
    assert filters_of_tab({"conjunction": "or", "items": [LETTERS, EMPTY]}) == [(LETTERS,), (EMPTY,)]
    assert filters_of_tab({"conjunction": "or", "items": []}) == [()]


def test_the_version_filter_is_a_list_and_longer_versions_are_compared() -> None:
    [one] = missing_version([(LETTERS,)], "v1", ["v1", "v2", "v"])
    assert (one.filters[0], one.filters[1]["value"], one.check_versions) == (LETTERS, ["v1"], False)
    assert [one.check_versions for one in missing_version([()], "v1", ["V1-margin"])] == [False, True]


def test_a_tab_of_another_project_is_an_error() -> None:
    def missing(path: str) -> Any:
        raise LabelStudioRefused("Not found", 404)

    with pytest.raises(BadSetting, match="belongs to project 8"):
        select_tasks(lambda path: {"project": 8, "data": {}}, 7, 3, only_unlabeled=False)
    with pytest.raises(BadSetting, match="no such tab"):
        select_tasks(missing, 7, 3, only_unlabeled=False)
    assert select_tasks(lambda path: {"project": 7, "data": {}}, 7, 3, only_unlabeled=True) == [(EMPTY,)]


@dataclass
class Listing:
    """Label Studio's list of tasks, for the filters that `MissingPredictions` makes. `versions` are those of
    the predictions, by task id.
    """

    versions: dict[int, list[str]]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, **parameters: Any) -> Any:
        assert path == "tasks"
        self.requests.append(parameters)
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
    missing = MissingPredictions(studio.get, 7, "v", [()], page=10)
    found = []
    for page in missing.pages():
        found += [task["id"] for task in page]
        for task in page:
            studio.versions[task["id"]].append("v")
    assert found == list(range(1, 26))
    assert (missing.found, len(studio.requests)) == (25, 3)
    assert list(missing.pages()) == []


def test_a_version_that_is_part_of_another_one_is_distinguished() -> None:
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
    missing = MissingPredictions(studio.get, 7, "v", [()], ["v", "v-margin", "v-entropy"], page=2)
    assert sorted(task["id"] for page in missing.pages() for task in page) == [1, 3, 5, 6]
    assert missing.among([2, 3, 5, 99]) == {3, 5}
    assert missing.among([]) == set()


def test_overlapping_queries_list_a_task_once() -> None:
    studio = Listing({number: [] for number in range(1, 8)})
    passes: list[tuple[dict[str, Any], ...]] = [
        ({"filter": "filter:tasks:id", "operator": "less_or_equal", "value": 5},),
        ({"filter": "filter:tasks:id", "operator": "greater", "value": 2},),
    ]
    missing = MissingPredictions(studio.get, 7, "v", passes, page=3)
    assert [task["id"] for page in missing.pages() for task in page] == list(range(1, 8))
    assert missing.total() is None
