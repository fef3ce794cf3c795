"""All annotations of a project, from Label Studio's API: webhooks get lost, and are sent once."""

from collections.abc import Iterator

from server.label_studio.project_tasks import PAGE, Get, annotations, task_pages
from server.learning.annotations import Annotation
from server.learning.events import AnnotationFields, Event, EventReader, ProjectFields, TaskFields

FIELDS = "id,data,annotations,result,was_cancelled,completed_by,task,updated_at"
"""The names also choose the fields of each annotation."""


def read_annotations(get: Get, project: int, reader: EventReader) -> list[Annotation]:
    """As `reader` reads those of webhooks. Raises LabelStudioRefused, LabelStudioUnreachable."""
    return list(_annotations(get, project, reader))


def _annotations(get: Get, project: int, reader: EventReader) -> Iterator[Annotation]:
    pages = task_pages(
        get,
        project,
        (annotations("greater", 0),),
        page_size=PAGE,
        include=FIELDS,
        fields="all",
        review="true",
    )
    for _, tasks in pages:
        for task in tasks:
            annotations_of_task = [
                AnnotationFields(**{name: each.get(name) for name in AnnotationFields.__struct_fields__})
                for each in task["annotations"]
            ]
            event = Event(
                "", ProjectFields(project), annotations_of_task, [TaskFields(task["id"], task["data"])]
            )
            yield from reader.annotations(event)
