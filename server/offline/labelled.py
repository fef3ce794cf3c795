"""Labelled texts, for training and evaluation: a table with a text and a label column, or what Label Studio
exports, where the labels are annotations.

A labeling config says which text a task shows and which labels its control can hold; then both are read as
the server reads them. Tasks without a label or a text are left out, and counted by the reason.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from server.errors import BadInput
from server.label_studio.exported_labels import (
    Answer,
    LabelReader,
    Reason,
    controls_of,
    data_of,
    decide,
    is_annotation_row,
    is_exported,
    was_annotated,
)
from server.label_studio.labeling_config import Question, read_question
from server.offline.records import LABEL, TEXT, Position, columns_of, open_records
from server.offline.row_texts import ColumnText, ConfigText, RowText


@dataclass(frozen=True)
class LabelledSource:
    """A file of labelled texts.

    `text` is a column, a path such as `review.body`, or a value such as `$title: $body`; `label` a column of
    a table, or a control. With `label_config`, which is XML, the text is its control's, and `label` is needed
    only where it has several controls, or a table has other columns.
    """

    path: Path
    text: str | None = None
    label: str | None = None
    label_config: str | None = None

    @cached_property
    def question(self) -> Question | None:
        """What the labeling config asks. Raises BadLabelConfig."""
        return None if self.label_config is None else read_question(self.label_config, self.label)


@dataclass(frozen=True)
class LeftOut:
    """How many tasks were left out, by reason."""

    reasons: Counter[Reason] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.reasons.total()

    def __str__(self) -> str:
        """Such as `2 without a text, 1 skipped by the annotators`."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())


@dataclass(frozen=True)
class Example:
    """One labelled text. `number` is its row, from 1; `labels` are sorted; `columns` are all of the task."""

    number: int
    text: str
    labels: tuple[str, ...]
    columns: dict[str, Any]

    @property
    def label(self) -> str:
        """The label of a text that has one only."""
        (label,) = self.labels
        return label


@dataclass(frozen=True)
class LabelledTexts:
    """The labelled texts of a file, with the labels of each, sorted. `multi_label`: a text may have several,
    or the labeling config lets people choose several. `groups`: the value of a column for each text.
    """

    texts: list[str]
    labels: list[tuple[str, ...]]
    multi_label: bool
    left_out: LeftOut
    groups: list[str] | None = None

    @property
    def weights(self) -> list[float]:
        """By which each text counts once, however often it occurs: 1 / its number of occurrences."""
        times = Counter(self.texts)
        return [1 / times[text] for text in self.texts]


def read_labelled(source: LabelledSource, group: str | None = None) -> LabelledTexts:
    """All examples of a file, with the column `group`. Raises BadInput, also if a row does not have that
    column; BadLabelConfig.
    """
    texts, labels, groups = [], [], []
    with open_labelled(source) as rows:
        for example in rows:
            texts.append(example.text)
            labels.append(example.labels)
            if group is not None:
                if group not in example.columns:
                    columns = ", ".join(map(str, example.columns))
                    row = f"{source.path}: row {example.number}"
                    raise BadInput(f'{row} has no column "{group}" (--group); its columns: {columns}.')
                groups.append(str(example.columns[group]))
    return LabelledTexts(
        texts, labels, rows.multi_label, rows.left_out, groups if group is not None else None
    )


@contextmanager
def open_labelled(source: LabelledSource) -> Iterator["LabelledRows"]:
    """The examples of a file. Raises BadInput and BadLabelConfig, also while examples are taken: for rows
    without the columns, a text that is no text, a file without labels.
    """
    with open_records(source.path) as (records, position):
        yield LabelledRows(source, records, position)


@dataclass(frozen=True)
class _Task:
    """A row, or the rows of one task: its columns, and the answers of its annotators."""

    number: int
    columns: dict[str, Any]
    answers: list[Answer]
    exported: bool


class LabelledRows:
    """The examples of a file, in order; an iterator. While they are taken, `left_out` counts the others;
    `multi_label` becomes true at the first text with several labels, and is from the start where the labeling
    config lets people choose several. `position` says how many bytes of the file were read.
    """

    def __init__(self, source: LabelledSource, records: Iterator[Any], position: Position) -> None:
        question = source.question
        self.left_out = LeftOut()
        self.multi_label = question is not None and question.answers.several
        self.position = position
        self._source = source
        self._text: RowText = (
            ColumnText(source.text or TEXT) if question is None else ConfigText(question.field)
        )
        control = question.answers.name if question else source.label or LABEL
        self._labels = LabelReader(control, question.answers if question else None)
        self._column = source.label or control
        self._controls = set[str]()
        self._columns: dict[str, Any] = {}
        self._has_column = False
        self._examples = self._read(records)

    def __iter__(self) -> Iterator[Example]:
        return self._examples

    def _read(self, records: Iterator[Any]) -> Iterator[Example]:
        several = self.multi_label
        tasks = kept = 0
        for task in self._tasks(records):
            tasks += 1
            labels = decide(task.answers, several=several)
            text = None if isinstance(labels, Reason) else self._read_text(task)
            reason = labels if isinstance(labels, Reason) else Reason.NO_TEXT
            if isinstance(labels, Reason) or text is None:
                self.left_out.reasons[reason] += 1
                continue
            kept += 1
            self.multi_label |= len(labels) > 1
            yield Example(task.number, text, labels, task.columns)
        if not kept:
            raise BadInput(f"{self._source.path}: {self._why_nothing_is_kept() if tasks else 'no rows.'}")

    def _read_text(self, task: _Task) -> str | None:
        try:
            text = self._text.read(task.columns, exported=task.exported)
        except ValueError as error:
            raise BadInput(f"{self._source.path}: row {task.number}: {error}") from None
        return text if text and not text.isspace() else None

    def _tasks(self, records: Iterator[Any]) -> Iterator[_Task]:
        """The rows of one task in Label Studio's tables become one task."""
        for _, numbered in groupby(enumerate(records, start=1), key=_task_of):
            rows = list(numbered)
            number, record = rows[0]
            columns = columns_of(record)
            if is_exported(record):
                self._check_control(number)
                self._controls |= controls_of(record)
                answers = self._labels.answers(record)
            elif is_annotation_row(record):
                columns = data_of(record)
                annotations = [row for _, row in rows if was_annotated(row)]
                answers = [self._labels.cell(row.get(self._column), exported=True) for row in annotations]
            else:
                cell = self._labels.cell(columns.get(self._column), exported=False)
                answers = [cell] if cell.labels or cell.unknown else []
            self._columns = self._columns or columns
            self._has_column |= any(self._column in columns_of(row) for _, row in rows)
            yield _Task(number, columns, answers, is_exported(record) or is_annotation_row(record))

    def _check_control(self, number: int) -> None:
        if self._column != self._labels.name:
            raise BadInput(
                f'{self._source.path}: row {number}: the labeling config has no control "{self._column}"; it '
                f'has "{self._labels.name}". Name one with --label.'
            )

    def _why_nothing_is_kept(self) -> str:
        found = ", ".join(map(str, self._columns)) or "none"
        if Reason.NO_TEXT in self.left_out.reasons:
            names = " or ".join(f'"{name}"' for name in dict.fromkeys(self._text.columns))
            return (
                f"no labelled row has a text in the column {names}; the columns of the first row: {found}. "
                "Name one with --text."
            )
        if self._controls:
            return (
                f'no task has a label of the control "{self._labels.name}"; the controls of its annotations: '
                f"{', '.join(sorted(self._controls))}. Name one with --label."
            )
        if not self._has_column:
            return (
                f'no row has the column "{self._column}"; the columns of the first row: {found}. Name one '
                "with --label."
            )
        return f"no row has a label: {self.left_out}."


def _task_of(numbered: tuple[int, Any]) -> object:
    """Equal for rows of one task."""
    number, row = numbered
    return str(row["id"]) if is_annotation_row(row) else number
