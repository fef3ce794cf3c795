"""What Label Studio's webhooks say: annotations to store, numbers to delete, or a request for training."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

from server.label_studio.exported_labels import LabelReader
from server.label_studio.labeling_config import Question
from server.label_studio.made_by_model import is_made_by_model
from server.learning.annotations import Annotation
from server.learning.store import utc

MAX_NUMBER = 2**63 - 1
"""Label Studio's numbers, and SQLite's, have 64 bits."""

NO_ANNOTATOR = 0
"""The annotator of an annotation that names none."""


class AnnotationFields(msgspec.Struct, gc=False):
    """What is read of an annotation in a webhook. Any of it may have another type than Label Studio sends."""

    id: Any = None
    task: Any = None
    completed_by: Any = None
    updated_at: Any = None
    was_cancelled: Any = None
    result: Any = None


class TaskFields(msgspec.Struct, gc=False):
    """What is read of a task in a webhook."""

    id: Any = None
    data: Any = None


class ProjectFields(msgspec.Struct):
    """What is read of a project in a webhook."""

    id: Any = None
    label_config: Any = None


class Kind(Enum):
    """What a webhook asks for."""

    STORE = "store"
    DELETE = "delete"
    DELETE_TASKS = "delete tasks"
    TRAIN = "train"
    OTHER = "other"


KINDS = {
    "ANNOTATION_CREATED": Kind.STORE,
    "ANNOTATION_UPDATED": Kind.STORE,
    "ANNOTATIONS_CREATED": Kind.STORE,
    "ANNOTATION_DELETED": Kind.DELETE,
    "ANNOTATIONS_DELETED": Kind.DELETE,
    "TASKS_DELETED": Kind.DELETE_TASKS,
    "START_TRAINING": Kind.TRAIN,
}
"""By the `action` of a webhook. Label Studio 1.23.2 sends all of them but ANNOTATION_DELETED."""


@dataclass(frozen=True)
class Event:
    """One webhook. Its annotations and tasks may be decoded while they are iterated, which takes long."""

    action: object
    project: ProjectFields
    annotations: Iterable[AnnotationFields] = ()
    tasks: Iterable[TaskFields] = ()

    @property
    def kind(self) -> Kind:
        return KINDS.get(self.action, Kind.OTHER) if isinstance(self.action, str) else Kind.OTHER

    @property
    def project_id(self) -> int | None:
        return number(self.project.id)

    @property
    def config(self) -> str | None:
        """The labeling config that the project has now. That of the last set-up may be older."""
        config = self.project.label_config
        return config if isinstance(config, str) and config.strip() else None

    def annotation_ids(self) -> list[int]:
        return [found for each in self.annotations if (found := number(each.id)) is not None]

    def task_ids(self) -> set[int]:
        return {found for each in self.tasks if (found := number(each.id)) is not None}


@dataclass(frozen=True)
class EventReader:
    """Reads the annotations of a project's events; texts and labels as training and evaluation read them.

    `max_text` is the maximum of characters in a text. `served` is the version of the model that the project
    is served with.
    """

    question: Question
    max_text: int
    served: str

    def annotations(self, event: Event) -> list[Annotation]:
        """Annotations without a number, a task or a time are left out. An annotation that nothing can be
        learned from has no labels, so that it takes effect where an earlier version had some.
        """
        texts = {task: self._text(each.data) for each in event.tasks if (task := number(each.id)) is not None}
        read = (self._annotation(each, texts) for each in event.annotations)
        return [each for each in read if each is not None]

    def _annotation(self, fields: AnnotationFields, texts: dict[int, str]) -> Annotation | None:
        found, task, updated = number(fields.id), number(fields.task), time_of(fields.updated_at)
        if found is None or task is None or updated is None:
            return None
        by = fields.completed_by
        annotator = number(by.get("id") if isinstance(by, dict) else by) or NO_ANNOTATOR
        text = texts.get(task, "")
        labels = self._labels(fields) if text and not is_made_by_model(fields.result) else ()
        return Annotation(found, task, annotator, text, labels, updated, self.served)

    def _labels(self, fields: AnnotationFields) -> tuple[str, ...]:
        """Sorted; empty for a skipped annotation, and for several labels where the control takes one."""
        answers = self.question.answers
        answer = LabelReader(answers.name, answers).answer(
            {"was_cancelled": fields.was_cancelled, "result": fields.result}
        )
        labels = tuple(sorted(map(storable, answer.labels)))
        return labels if answers.several or len(labels) == 1 else ()

    def _text(self, data: object) -> str:
        """The task's text, "" for none and for one that is too long."""
        text = self.question.field.join(self.question.field.look_up(data))
        if text is None or len(text) > self.max_text:
            return ""
        return storable(self.question.field.show(text))


def number(value: object) -> int | None:
    """A number of Label Studio's; None for any other value."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER
    return value if is_number else None  # type: ignore[return-value]  # mypy does not follow the name


def time_of(value: object) -> str | None:
    """A time of Label Studio's as the store keeps it; None for any other value."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return utc(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def storable(text: str) -> str:
    """The text with half surrogate pairs replaced, which no file can hold."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
