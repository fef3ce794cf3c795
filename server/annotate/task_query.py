"""Which of a project's tasks still lack a model version, asked for in Label Studio's own filters, page by
page.

    tab's filters ─▶ passes (filters joined by "and") ─▶ pages by rising task id

Pages are cut by id, never by number: what is stored meanwhile changes what the filter finds, and numbers
would shift.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.errors import BadSetting, LabelStudioRefused

Task = dict[str, Any]
Filter = dict[str, Any]
Get = Callable[..., Any]
"""`Api.get`: a path and its parameters → the answer's JSON."""

PAGE = 500
"""Tasks in one answer: a few megabytes, and the cost of a request is shared by enough of them."""

NOT_FOUND = 404

IDS_PAGE = 10_000
"""Tasks in one answer that holds nothing but their ids."""

UNLABELED: Filter = {
    "filter": "filter:tasks:total_annotations",
    "operator": "equal",
    "type": "Number",
    "value": 0,
}


@dataclass(frozen=True)
class TaskFilter:
    """One run through the tasks that all `filters` let through. `look`: the version filter cannot tell, so
    look at each task's predictions.
    """

    filters: tuple[Filter, ...]
    look: bool = False


def tab_passes(filters: dict[str, Any] | None) -> list[tuple[Filter, ...]]:
    """A tab's filters as passes whose union is the tab. "or" takes a pass an item, for a query joins all its
    filters in one way.
    """
    items = (filters or {}).get("items") or []
    if (filters or {}).get("conjunction") == "or":
        return [(item,) for item in items] or [()]
    return [tuple(items)]


def version_passes(
    chosen: Sequence[tuple[Filter, ...]], version: str, others: Collection[str]
) -> list[TaskFilter]:
    """The passes that find what lacks `version`, in a project with the versions `others`.

    Label Studio's filter finds a version inside longer ones, on SQLite in any case of letters. Where such a
    longer one exists, the tasks that have it take a pass of their own, and are looked at.
    """
    passes = [TaskFilter((*filters, _versions("not_contains", version))) for filters in chosen]
    if any(version.casefold() in other.casefold() for other in others if other != version):
        passes += [TaskFilter((*filters, _versions("contains", version)), look=True) for filters in chosen]
    return passes


def _versions(operator: str, version: str) -> Filter:
    # a list: of a bare text Label Studio would look for each letter
    return {
        "filter": "filter:tasks:predictions_model_versions",
        "operator": operator,
        "type": "List",
        "value": [version],
    }


def between(lowest: int, highest: int) -> tuple[Filter, Filter]:
    return _id("greater_or_equal", lowest), _id("less_or_equal", highest)


def _id(operator: str, number: int) -> Filter:
    return {"filter": "filter:tasks:id", "operator": operator, "type": "Number", "value": number}


def query(filters: Sequence[Filter], after: int | None = None) -> str:
    """The Data Manager's query for what all `filters` let through, by rising id, past the id `after`."""
    items = [*filters, *([_id("greater", after)] if after is not None else [])]
    return json.dumps({"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]})


@dataclass
class MissingPredictions:
    """The tasks of a project, or of one tab, that lack `version`."""

    get: Get
    project: int
    version: str
    chosen: list[tuple[Filter, ...]]
    others: Collection[str] = ()
    page: int = PAGE
    review: bool = False
    """Asks Label Studio not to call its ML backend for the tasks it lists; costs time, so only where it
    would.
    """
    found: int = field(default=0, init=False)
    """How many there are at most, as far as is known: it grows with each pass that begins."""

    def pages(self) -> Iterator[list[Task]]:
        """Each task once, as `{"id", "data"}`."""
        passes = version_passes(self.chosen, self.version, self.others)
        seen: set[int] = set()
        for one in passes:
            known = self.found
            for total, page in self._pages(one, "id,data", self.page):
                self.found = max(self.found, known + total)
                fresh = [task for task in page if task["id"] not in seen]
                if len(passes) > 1:
                    seen.update(task["id"] for task in fresh)
                yield fresh

    def among(self, ids: Collection[int]) -> set[int]:
        """Those of `ids` that are tasks of the project and lack the version."""
        if not ids:
            return set()
        passes = version_passes([between(min(ids), max(ids))], self.version, self.others)
        lacking = {
            task["id"] for one in passes for _, page in self._pages(one, "id", IDS_PAGE) for task in page
        }
        return lacking.intersection(ids)

    def total(self) -> int | None:
        """All tasks, with the version or without; None where one query cannot count them."""
        if len(self.chosen) > 1:
            return None
        counted: int = self._ask(self.chosen[0], page_size=1, include="id")["total"]
        return counted

    def _pages(self, one: TaskFilter, fields: str, size: int) -> Iterator[tuple[int, list[Task]]]:
        """(what the filters find from here to the end, the next page's tasks that lack the version)."""
        after: int | None = None
        parameters = (
            {"include": f"{fields},predictions", "fields": "all"} if one.look else {"include": fields}
        )
        while True:
            answer = self._ask(one.filters, after, page_size=size, **parameters)
            # a task with two predictions that the filter finds is listed twice
            tasks = {task["id"]: task for task in answer["tasks"]}
            if not tasks:
                return
            lacking = [task for task in tasks.values() if not (one.look and self._carries(task))]
            yield answer["total"], [{name: task[name] for name in fields.split(",")} for task in lacking]
            if len(answer["tasks"]) == answer["total"]:
                return
            after = max(tasks)

    def _ask(self, filters: Sequence[Filter], after: int | None = None, **parameters: Any) -> Any:
        """A page of tasks. Addresses in storages stay as they are, as in what Label Studio sends to an ML
        backend.
        """
        if self.review:
            parameters["review"] = "true"
        return self.get(
            "tasks", project=self.project, resolve_uri="false", query=query(filters, after), **parameters
        )

    def _carries(self, task: Task) -> bool:
        return any(prediction["model_version"] == self.version for prediction in task["predictions"])


def chosen_tasks(
    get: Get, project: int, view: int | None, *, only_unlabeled: bool
) -> list[tuple[Filter, ...]]:
    """The passes for a tab (`view`) or for all tasks. Raises BadSetting for a tab that another project has."""
    filters = None
    if view is not None:
        try:
            tab = get(f"dm/views/{view}")
        except LabelStudioRefused as error:
            if error.http_status != NOT_FOUND:
                raise
            raise BadSetting(
                f"--view {view}: Label Studio has no such tab; its number stands behind tab= in the "
                "tab's address."
            ) from None
        if tab["project"] != project:
            raise BadSetting(
                f"--view {view}: the tab belongs to project {tab['project']}, not to {project}; its "
                "number stands behind tab= in its address."
            )
        filters = (tab["data"] or {}).get("filters")
    return [(*one, UNLABELED) if only_unlabeled else one for one in tab_passes(filters)]
