"""Labelled texts: what a network is trained on and measured by.

A row is a text and its label: two columns of a file, or a task of Label Studio's JSON export with its
annotations.
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
    """`label` is None for an exported task that nobody labelled, or whose annotators disagree; `columns` are
    all of the row's.
    """

    number: int
    text: str
    label: str | None
    columns: dict[str, Any]


@contextmanager
def open_labelled(path: Path, text: str, label: str) -> Iterator[tuple[Iterator[Example], Position]]:
    """The examples of `path` and how many of its bytes were read; `text` names a column, `label` a column or,
    in an export, a control.

    Raises BadInput, also while examples are taken: for a missing column, an empty cell, a file without any
    label.
    """
    with open_records(path) as (records, position):
        yield _examples(path, records, text, label), position


def _examples(path: Path, records: Iterator[Any], text: str, label: str) -> Iterator[Example]:
    number, labelled, controls = 0, 0, set[str]()
    for number, record in enumerate(records, start=1):
        columns = columns_of(record)
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
        raise BadInput(
            f'{path}: no task has a label by "{label}"; its annotations are by: {", ".join(sorted(controls)) or "nobody"}. Name one with --label.'
        )


def _cell(path: Path, number: int, columns: dict[str, Any], column: str) -> Any:
    if column not in columns:
        raise BadInput(
            f'{path}: row {number} has no column "{column}"; it has: {", ".join(map(str, columns)) or "none"}. Name one with --text or --label.'
        )
    return columns[column]


def _as_label(value: Any) -> str:
    """Text without the spaces around it; numbers, true and false as they are written; nothing for anything
    else.
    """
    return str(value).strip() if isinstance(value, str | int | float) else ""
