"""Reads the annotators' labels from what Label Studio exports, and decides what a task's labels are.

JSON: a task is `{"id", "data": {…}, "annotations": [{"result": [region…], "was_cancelled", "ground_truth",
…}], …}`. A region names its control in `from_name`; its `value` holds the labels.

JSON_MIN, CSV and TSV: one row for each annotation, or for a task without one, with the columns of the task
and a column for each control. The rows of a task follow each other and have the same `id`. A cell holds a
label as text, or else the values of the regions, in a CSV as JSON.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import Any

from server.label_studio.control_tags import Answers, name_of

PREFIX = "_data_"
"""Begins the name of a task's column in a CSV whose control has the same name."""


class Reason(StrEnum):
    """Why a task has no label, or is left out for another reason."""

    UNANSWERED = "without an annotation or label"
    SKIPPED = "skipped by the annotators"
    EMPTY = "annotated without a label of this control"
    DISAGREE = "annotators disagree"
    UNKNOWN = "with a label that the labeling config does not have"
    NO_TEXT = "without a text"


@dataclass(frozen=True)
class Answer:
    """One annotator's labels for a task. `unknown`: labels that the control cannot hold were dropped."""

    labels: frozenset[str] = frozenset()
    ground_truth: bool = False
    skipped: bool = False
    unknown: bool = False


@dataclass(frozen=True)
class LabelReader:
    """Reads the labels of one control: `name` is its name, or a column of a table. `control` is None where
    there is no labeling config to say what it can hold.
    """

    name: str
    control: Answers | None = None

    def answers(self, task: dict[str, Any]) -> list[Answer]:
        """The answers in the annotations of an exported task."""
        return [self.answer(annotation) for annotation in _annotations(task)]

    def answer(self, annotation: Mapping[str, Any]) -> Answer:
        """The answer in one annotation, of which `was_cancelled`, `result` and `ground_truth` are read."""
        if annotation.get("was_cancelled"):
            return Answer(skipped=True)
        names = [
            name
            for region in _regions(annotation)
            if region.get("from_name") == self.name
            for name in _names(region.get("value"), several=self._several)
        ]
        return self._of(names, ground_truth=annotation.get("ground_truth") is True)

    def cell(self, value: object, *, exported: bool) -> Answer:
        """The answer in a cell of a table; `exported`: Label Studio wrote it.

        A list of words is several labels. But where Label Studio writes one, it is the path of one label,
        unless the control holds no paths.
        """
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = _parsed(value)
        nested = exported if self.control is None else self.control.nested
        if nested and _is_path(value):
            return self._of([name_of(value)])
        items = value if isinstance(value, list) else [value]
        return self._of(name for each in items for name in self._in_item(each))

    @property
    def _several(self) -> bool:
        return self.control is not None and self.control.several

    def _of(self, names: Iterable[str], *, ground_truth: bool = False) -> Answer:
        present = {name for name in names if name}
        if self.control is None:
            return Answer(frozenset(present), ground_truth)
        known = {self.control.label(name) for name in present}
        labels = frozenset(name for name in known if name is not None)
        return Answer(labels, ground_truth, unknown=None in known)

    def _in_item(self, value: object) -> list[str]:
        """The labels in a region's value, in a label or in a path."""
        if isinstance(value, dict):
            return list(_names(value, several=self._several))
        return [name_of(value)] if _is_label(value) or _is_path(value) else []


def decide(answers: Sequence[Answer], *, several: bool) -> tuple[str, ...] | Reason:
    """The labels of a task, sorted, or why it has none.

    Annotations that are ground truth outvote all others. One label wins if more annotators gave it than any
    other. With `several`, or where an annotator gave more than one, each label wins that more than half of
    them gave. A tie leaves the task out.
    """
    given = [answer for answer in answers if answer.labels]
    if not given:
        return _why_none(answers)
    given = [answer for answer in given if answer.ground_truth] or given
    votes = Counter(label for answer in given for label in answer.labels)
    if several or any(len(answer.labels) > 1 for answer in given):
        if any(2 * count == len(given) for count in votes.values()):
            return Reason.DISAGREE
        won = sorted(label for label, count in votes.items() if 2 * count > len(given))
        return tuple(won) or Reason.DISAGREE
    (label, count), *others = votes.most_common(2)
    return Reason.DISAGREE if others and others[0][1] == count else (label,)


def _why_none(answers: Sequence[Answer]) -> Reason:
    """Why none of these answers has a label."""
    if not answers:
        return Reason.UNANSWERED
    if any(answer.unknown for answer in answers):
        return Reason.UNKNOWN
    return Reason.SKIPPED if all(answer.skipped for answer in answers) else Reason.EMPTY


def is_exported(row: object) -> bool:
    """Whether a row of a file is a task of Label Studio's JSON export."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("annotations"), list)
        and isinstance(row.get("data"), dict)
    )


def is_annotation_row(row: object) -> bool:
    """Whether a row of a file is one of Label Studio's JSON_MIN, CSV or TSV export."""
    return isinstance(row, dict) and "annotation_id" in row and "annotator" in row and "id" in row


def was_annotated(row: dict[str, Any]) -> bool:
    """Whether such a row is an annotation; else it is a task without one."""
    return row["annotation_id"] not in (None, "")


def data_of(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of the task of such a row."""
    renamed = {name[len(PREFIX) :]: value for name, value in row.items() if str(name).startswith(PREFIX)}
    return row | renamed


def controls_of(task: dict[str, Any]) -> set[str]:
    """Names of the controls that annotators of this task used."""
    return {
        str(region.get("from_name"))
        for annotation in _annotations(task)
        if not annotation.get("was_cancelled")
        for region in _regions(annotation)
    }


def _annotations(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (annotation for annotation in task["annotations"] if isinstance(annotation, dict))


def _regions(annotation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    result = annotation.get("result")
    if isinstance(result, list):
        yield from (region for region in result if isinstance(region, dict))


def _names(value: object, *, several: bool = False) -> Iterator[str]:
    """The labels in a region's value: choices and paths, the rating, the number."""
    if not isinstance(value, dict):
        return
    choices, taxonomy = (_paths(value.get(kind)) for kind in ("choices", "taxonomy"))
    yield from map(name_of, (*_chosen(choices, several=several), *taxonomy))
    yield from (name_of(value[kind]) for kind in ("rating", "number") if _is_label(value.get(kind)))


def _paths(values: object) -> list[tuple[Any, ...]]:
    """Choices and paths of a region, as paths."""
    found = values if isinstance(values, list) else []
    return [
        tuple(each) if isinstance(each, list) else (each,)
        for each in found
        if _is_label(each) or _is_path(each)
    ]


def _chosen(paths: Sequence[tuple[Any, ...]], *, several: bool) -> set[tuple[Any, ...]]:
    """What an annotator chose of the paths that a <Choices> holds.

    Label Studio's editor also stores a choice whose choices below it are all chosen, and with a choice all
    that are below it. So several choices are those with none below them; a single one is the topmost, unless
    it has just one below it.
    """
    present = set(paths)
    below = Counter(path[:-1] for path in present)
    tops = [path for path in present if path[:-1] not in present]
    if several or len(tops) != 1:
        return {path for path in present if not below[path]}
    (top,) = tops
    while below[top] == 1:
        (top,) = (path for path in present if path[:-1] == top)
    return {top}


def _parsed(text: str) -> object:
    """The value that Label Studio wrote into a cell as JSON; the text itself if it is a label."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    items = value if isinstance(value, list) else [value]
    is_written = all(
        isinstance(each, str) or (isinstance(each, dict) and any(_names(each))) for each in items
    )
    return value if items and is_written else text


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and not isnan(value))


def _is_path(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_label, value))
