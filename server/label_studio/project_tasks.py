"""A project and its tasks through Label Studio's API: the query of its Data Manager, page by page.

Each page starts after the last task id of the page before, not at a page number: tasks that change in the
meantime leave the result and would shift page numbers.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from server.errors import BadSetting, LabelStudioRefused

Task = dict[str, Any]
Filter = dict[str, Any]
"""One condition on tasks, in the format of Label Studio's Data Manager."""
Get = Callable[..., Any]
"""`Api.get`: a path and its parameters → the response's JSON."""

NOT_FOUND = 404

PAGE = 500
"""Tasks per response: a few megabytes, and enough tasks to spread the fixed cost of a request over."""

IDS_PAGE = 10_000
"""Tasks per response that holds only their ids."""


def annotations(operator: str, value: int) -> Filter:
    """Tasks by their number of annotations, without skipped ones."""
    return _number("total_annotations", operator, value)


def id_range(lowest: int, highest: int) -> tuple[Filter, Filter]:
    return _number("id", "greater_or_equal", lowest), _number("id", "less_or_equal", highest)


def _number(column: str, operator: str, value: int) -> Filter:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}


def as_query(filters: Sequence[Filter], after: int | None = None) -> str:
    """The `query` parameter of the Data Manager: tasks that meet all `filters`, by rising id, from after the
    task id `after`.
    """
    items = [*filters, *([_number("id", "greater", after)] if after is not None else [])]
    return json.dumps({"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]})


def query_tasks(
    get: Get, project: int, filters: Sequence[Filter], after: int | None = None, **parameters: Any
) -> Any:
    """One page of tasks. URIs of cloud storage stay unresolved, as in the requests to an ML backend."""
    return get("tasks", project=project, resolve_uri="false", query=as_query(filters, after), **parameters)


def task_pages(
    get: Get, project: int, filters: Sequence[Filter], **parameters: Any
) -> Iterator[tuple[int, list[Task]]]:
    """(tasks that the query finds from this page on, this page's tasks). A task that a filter lists several
    times is on the page once.
    """
    after: int | None = None
    while True:
        response = query_tasks(get, project, filters, after, **parameters)
        tasks = {task["id"]: task for task in response["tasks"]}
        if not tasks:
            return
        yield response["total"], list(tasks.values())
        if len(response["tasks"]) == response["total"]:
            return
        after = max(tasks)


def read_project(get: Get, project: int) -> dict[str, Any]:
    """A project. Raises BadSetting if there is none."""
    try:
        found: dict[str, Any] = get(f"projects/{project}")
    except LabelStudioRefused as error:
        if error.http_status != NOT_FOUND:
            raise
        raise BadSetting(
            f"--project {project}: Label Studio has no such project, or this token has no access to it; "
            "check the number, and the token's user."
        ) from None
    return found


def annotated_tasks(get: Get, project: int) -> Iterator[Task]:
    """All tasks, as Label Studio exports them: those with annotations as they are, then the others with their
    id, and with an annotation only where they were skipped.
    """
    for _, page in task_pages(
        get,
        project,
        (annotations("greater", 0),),
        page_size=PAGE,
        # the names also choose the fields of each annotation
        include="id,data,annotations,result,was_cancelled,ground_truth",
        fields="all",
    ):
        yield from page
    for _, page in task_pages(
        get, project, (annotations("equal", 0),), page_size=IDS_PAGE, include="id,cancelled_annotations"
    ):
        for task in page:
            skipped = [{"was_cancelled": True}] if task["cancelled_annotations"] else []
            yield {"id": task["id"], "data": {}, "annotations": skipped}
