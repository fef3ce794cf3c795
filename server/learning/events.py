"""Label Studio's webhooks and API responses → annotations. Pure.

    ANNOTATION_CREATED, ANNOTATION_UPDATED    {"annotation": {…}, "task": {…}, "project": {…}}
    ANNOTATIONS_CREATED                       {"annotation": [{…}, …], "task": [{…}, …], "project": {…}}
    ANNOTATIONS_DELETED                       {"annotations": [{"id"}, …], "project": {…}}
    START_TRAINING                            {"project": {…}}

Observed with Label Studio 1.23.2, whose source has the names in `webhooks/models.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from server.label_studio.exported_labels import LabelReader
from server.label_studio.labeling_config import Question, read_question
from server.label_studio.made_by_model import is_made_by_model
from server.learning.annotations import Annotation
from server.learning.store import utc

WRITTEN = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"}
DELETED = {"ANNOTATION_DELETED", "ANNOTATIONS_DELETED"}
TRAINING = "START_TRAINING"

MAX_NUMBER = 2**63 - 1
"""The largest integer that SQLite keeps."""

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """Annotations that were written, and the numbers of those deleted. `unreadable` counts others."""

    annotations: tuple[Annotation, ...] = ()
    deleted: tuple[int, ...] = ()
    unreadable: int = 0


@lru_cache(64)
def question_of(config: str, control: str | None) -> Question:
    """What a labeling config asks, and of several controls this one. Raises BadLabelConfig."""
    return read_question(config, control)


def project_of(fields: Fields) -> int | None:
    """The number of the project that an event is about."""
    project = fields.get("project")
    return _number(project.get("id")) if isinstance(project, dict) else None


def read_event(fields: Fields, question: Question, max_text: int) -> Event:
    """The annotations of an event; `max_text` in characters."""
    if fields.get("action") in DELETED:
        found = [_number(each.get("id")) for each in _objects(fields.get("annotations"))]
        return Event(deleted=tuple(number for number in found if number is not None))
    tasks = {task.get("id"): task for task in _objects(fields.get("task"))}
    annotations, unreadable = [], 0
    for each in _objects(fields.get("annotation")):
        task = tasks.get(each.get("task"))
        read = None if task is None else read_annotation(each, task, question, max_text)
        if read is None:
            unreadable += 1
        else:
            annotations.append(read)
    return Event(tuple(annotations), unreadable=unreadable)


def read_annotation(annotation: Fields, task: Fields, question: Question, max_text: int) -> Annotation | None:
    """One annotation of Label Studio; None if it is none. It has no labels where it was skipped or says
    nothing about the control, where the task has no text or a longer one, and where a model made it.
    """
    number, task_number = _number(annotation.get("id")), _number(task.get("id"))
    updated = _time(annotation.get("updated_at") or annotation.get("created_at"))
    if number is None or task_number is None or updated is None:
        return None
    text = question.field.text(task.get("data")) or ""
    answer = LabelReader(question.answers.name, question.answers).answer(dict(annotation))
    usable = bool(text.strip()) and len(text) <= max_text and not is_made_by_model(annotation.get("result"))
    labels = tuple(sorted(answer.labels)) if usable else ()
    if len(labels) > 1 and not question.answers.several:
        labels = ()
    return Annotation(number, task_number, _annotator(annotation), text if labels else "", labels, updated)


def _annotator(annotation: Fields) -> int:
    """`completed_by` is the number of a user, or the user."""
    user = annotation.get("completed_by")
    return _number(user.get("id") if isinstance(user, dict) else user) or 0


def _objects(value: object) -> Iterator[dict[str, Any]]:
    items: Iterable[object] = value if isinstance(value, list) else [value]
    yield from (item for item in items if isinstance(item, dict))


def _number(value: object) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
    return value if is_number and isinstance(value, int) else None


def _time(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return utc(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
