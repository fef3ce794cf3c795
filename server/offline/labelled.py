"""Labelled texts, for training and evaluation: a table with a text and a label column, or Label Studio's JSON
export, where the labels are annotations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import BadInput
from server.label_studio.exported_labels import controls_of, is_exported, label_of
from server.label_studio.object_tags import text_of
from server.offline.records import Position, columns_of, open_records


@dataclass(frozen=True)
class Example:
    """One row. `number` counts from 1; `label` is None for an exported task without annotations, or whose
    annotators disagree; `columns` are all columns of the row.
    """

    number: int
    text: str
    label: str | None
    columns: dict[str, Any]


@contextmanager
def open_labelled(path: Path, text: str, label: str) -> Iterator[tuple[Iterator[Example], Position]]:
    """The examples of `path`, and how many bytes of the file were read.

    `text` names a column, `label` a column or, in an export, a control. Raises BadInput, also while examples
    are taken: for a missing column, an empty cell, a file without labels.
    """
    with open_records(path) as (records, position):
        yield _examples(path, records, text, label), position


def _examples(path: Path, records: Iterator[Any], text: str, label: str) -> Iterator[Example]:
    number, labelled, controls = 0, 0, set[str]()
    for number, record in enumerate(records, start=1):
        columns = columns_of(record)
        name: str | None
        if is_exported(record):
            try:
                name = label_of(record, label)
            except BadInput as error:
                raise BadInput(f"{path}: {error}") from None
            controls |= controls_of(record)
        else:
            name = _as_label(_cell(path, number, columns, label))
            if not name:
                raise BadInput(f'{path}: row {number}: the column "{label}" is empty.')
        _cell(path, number, columns, text)
        words = text_of(columns, text)
        if words is None and name is not None:
            raise BadInput(f'{path}: row {number}: the column "{text}" is empty.')
        labelled += name is not None
        yield Example(number, words or "", name, columns)
    if not number:
        raise BadInput(f"{path}: no rows.")
    if not labelled:
        found = ", ".join(sorted(controls)) or "none"
        raise BadInput(
            f'{path}: no task has a label of the control "{label}"; the controls of its annotations: '
            f"{found}. Name one with --label."
        )


def _cell(path: Path, number: int, columns: dict[str, Any], column: str) -> Any:
    if column not in columns:
        found = ", ".join(map(str, columns)) or "none"
        raise BadInput(
            f'{path}: row {number} has no column "{column}"; its columns: {found}. '
            "Name one with --text or --label."
        )
    return columns[column]


def _as_label(value: Any) -> str:
    """Text without surrounding spaces; numbers and booleans as text; "" for anything else."""
    return str(value).strip() if isinstance(value, str | int | float) else ""
