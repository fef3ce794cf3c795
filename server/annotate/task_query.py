"""Lists the tasks of a project that have no prediction of a model version yet, page by page.

    tab's filters ─▶ TaskFilters (each one query of Label Studio's Data Manager) ─▶ pages by rising task id

Predictions stored in the meantime remove tasks from the result; pages go by task id, so none is missed.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.errors import BadSetting, LabelStudioRefused
from server.label_studio.project_tasks import (
    IDS_PAGE,
    NOT_FOUND,
    PAGE,
    Filter,
    Get,
    Task,
    annotations,
    id_range,
    query_tasks,
    task_pages,
)

UNLABELED = annotations("equal", 0)


@dataclass(frozen=True)
class TaskFilter:
    """One query: the tasks that meet all of `filters`.

    With `check_versions` the query also returns tasks that have the version, so the versions of each task's
    predictions are compared here.
    """

    filters: tuple[Filter, ...]
    check_versions: bool = False


def filters_of_tab(tab: dict[str, Any] | None) -> list[tuple[Filter, ...]]:
    """A tab's filters as queries whose union is the tab: one query for "and", one per filter for "or".

    Our own filters are joined to each with "and", and a Data Manager query has one conjunction for all.
    """
    items = (tab or {}).get("items") or []
    if (tab or {}).get("conjunction") == "or":
        return [(item,) for item in items] or [()]
    return [tuple(items)]


def missing_version(
    selected: Sequence[tuple[Filter, ...]], version: str, other_versions: Collection[str]
) -> list[TaskFilter]:
    """The queries for the selected tasks without a prediction of `version`.

    Label Studio's filter matches substrings, on SQLite ignoring case: "not contains v1" hides a task that has
    only "v1-margin". Where the project has such a longer version, a second query lists those tasks.
    """
    queries = [TaskFilter((*filters, _versions("not_contains", version))) for filters in selected]
    if any(version.casefold() in other.casefold() for other in other_versions if other != version):
        queries += [
            TaskFilter((*filters, _versions("contains", version)), check_versions=True)
            for filters in selected
        ]
    return queries


def _versions(operator: str, version: str) -> Filter:
    # a list: for a plain string Label Studio would search each of its letters
    return {
        "filter": "filter:tasks:predictions_model_versions",
        "operator": operator,
        "type": "List",
        "value": [version],
    }


@dataclass
class MissingPredictions:
    """The selected tasks of a project that have no prediction of `version`.

    `other_versions` are the versions that the project's predictions have; `page` is in tasks.
    """

    get: Get
    project: int
    version: str
    selected: list[tuple[Filter, ...]]
    other_versions: Collection[str] = ()
    page: int = PAGE
    review: bool = False
    """Keeps Label Studio from calling its ML backend for the tasks it lists. Makes listing slower, so only
    for projects that evaluate predictions automatically.
    """
    found: int = field(default=0, init=False)
    """Upper bound of the number of tasks, as far as it is known: it grows with each query."""

    def pages(self) -> Iterator[list[Task]]:
        """Each task once, as `{"id", "data"}`."""
        queries = missing_version(self.selected, self.version, self.other_versions)
        seen: set[int] = set()
        for query in queries:
            known = self.found
            for total, page in self._pages(query, "id,data", self.page):
                self.found = max(self.found, known + total)
                fresh = [task for task in page if task["id"] not in seen]
                if len(queries) > 1:
                    seen.update(task["id"] for task in fresh)
                yield fresh

    def among(self, ids: Collection[int]) -> set[int]:
        """The subset of `ids` that are tasks of the project without the version."""
        if not ids:
            return set()
        queries = missing_version([id_range(min(ids), max(ids))], self.version, self.other_versions)
        missing = {
            task["id"] for query in queries for _, page in self._pages(query, "id", IDS_PAGE) for task in page
        }
        return missing.intersection(ids)

    def total(self) -> int | None:
        """The number of selected tasks, with or without the version; None where one query cannot count
        them.
        """
        if len(self.selected) > 1:
            return None
        response = query_tasks(
            self.get, self.project, self.selected[0], page_size=1, include="id", **self._review()
        )
        total: int = response["total"]
        return total

    def _pages(self, query: TaskFilter, fields: str, size: int) -> Iterator[tuple[int, list[Task]]]:
        """(tasks that the query finds from this page on, this page's tasks without the version)."""
        parameters = (
            {"include": f"{fields},predictions", "fields": "all"}
            if query.check_versions
            else {"include": fields}
        )
        # the version filter lists a task once for each of its predictions that match
        for total, tasks in task_pages(
            self.get, self.project, query.filters, page_size=size, **self._review(), **parameters
        ):
            missing = [task for task in tasks if not (query.check_versions and self._has_version(task))]
            yield total, [{name: task[name] for name in fields.split(",")} for task in missing]

    def _review(self) -> dict[str, Any]:
        return {"review": "true"} if self.review else {}

    def _has_version(self, task: Task) -> bool:
        return any(prediction["model_version"] == self.version for prediction in task["predictions"])


def select_tasks(
    get: Get, project: int, view: int | None, *, only_unlabeled: bool
) -> list[tuple[Filter, ...]]:
    """The queries for the tab `view`, or for all tasks. Raises BadSetting if the tab is not the project's."""
    filters = None
    if view is not None:
        try:
            tab = get(f"dm/views/{view}")
        except LabelStudioRefused as error:
            if error.http_status != NOT_FOUND:
                raise
            raise BadSetting(
                f"--view {view}: Label Studio has no such tab; take the number after tab= in the tab's URL."
            ) from None
        if tab["project"] != project:
            raise BadSetting(
                f"--view {view}: the tab belongs to project {tab['project']}, not to {project}; take the "
                "number after tab= in the tab's URL."
            )
        filters = (tab["data"] or {}).get("filters")
    return [(*one, UNLABELED) if only_unlabeled else one for one in filters_of_tab(filters)]
