"""Writes the output file of a part: JSONL for Label Studio's import, or Parquet for further processing.

Parquet files always have the same columns, so that all files of a folder form one table:

    data                string          the task's data, as JSON
    labels              list<string>    the labels of the first predicted control; empty if there are none
    score               double          the prediction's score
    model_version       string
    predictions         string          as in the JSONL, as JSON
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from server.files import private_opener
from server.offline.classifier import CHUNK
from server.offline.predict_file import Progress, TaskWriter, Writer, dumps

SCHEMA = pa.schema(
    {
        "data": pa.string(),
        "labels": pa.list_(pa.string()),
        "score": pa.float64(),
        "model_version": pa.string(),
        "predictions": pa.string(),
    }
)


@contextmanager
def open_output(path: Path, suffix: str) -> Iterator[Writer]:
    """The file is complete when the block ends. Raises OSError."""
    with open(path, "wb", opener=private_opener) as file:
        if suffix == ".jsonl":
            yield TaskWriter(file, as_list=False)
            return
        with parquet.ParquetWriter(file, SCHEMA) as writer:
            rows = TableWriter(writer)
            yield rows
            rows.flush()


@dataclass
class TableWriter:
    """Writes one row per task, in row groups of CHUNK rows."""

    file: parquet.ParquetWriter
    pending: list[dict[str, Any]] = field(default_factory=list)

    def write(self, task: dict[str, Any], progress: Progress) -> None:
        self.pending.append(row_of(task))
        progress.rows += 1
        if len(self.pending) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.pending, SCHEMA))
        self.pending.clear()


def row_of(task: dict[str, Any]) -> dict[str, Any]:
    (prediction,) = task["predictions"]
    regions = prediction["result"]
    return {
        "data": dumps(task["data"]).decode(),
        "labels": _labels(regions[0]) if regions else [],
        "score": prediction["score"],
        "model_version": prediction["model_version"],
        "predictions": dumps(task["predictions"]).decode(),
    }


def _labels(region: dict[str, Any]) -> list[str]:
    """The values of a region of any control: choices as they are, other values as JSON text."""
    value = next(iter(region["value"].values()))
    return [
        each if isinstance(each, str) else dumps(each).decode()
        for each in (value if isinstance(value, list) else [value])
    ]
