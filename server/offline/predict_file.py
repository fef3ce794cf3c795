"""Predicts a file of texts into a file for Label Studio's import. Resumable, to the same bytes.

    rows ─▶ chunks ─▶ labeler ─▶ tasks with predictions

Output goes to OUT.part; after each chunk OUT.part.progress says how far the run has come, and a resumed run
continues there. A chunk is a fixed number of rows, fewer where rows are large, so the same input gives the
same chunks, the same model calls and the same bytes, however often the run was interrupted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import IO, Any, Protocol

import msgspec
from pydantic import BaseModel, ValidationError

from server.errors import BadInput
from server.files import atomic_write, private_opener
from server.offline.classifier import CHUNK
from server.offline.labeler import Labeler
from server.offline.records import Records, columns_of, open_records

CHUNK_BYTES = 2**25
"""Decompressed bytes of the input after which a chunk ends early."""


class Progress(BaseModel):
    """How far a run has come. `key` identifies everything that decides the output; `truncated` counts texts;
    `written` is in bytes.
    """

    key: str
    rows: int = 0
    without_text: int = 0
    truncated: int = 0
    written: int = 0


def predict_file(
    source: Path,
    out: Path,
    labeler: Labeler,
    *,
    resume: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Progress:
    """Write an import file for the rows of `source`: `.json` is a list, `.jsonl` has one task per line.

    `on_progress(rows done, bytes of the source read)` is called after each chunk. With `resume`, a killed run
    of the same source, bundle and config is continued, if there is one. Raises BadInput.
    """
    if out.suffix not in (".json", ".jsonl"):
        raise BadInput(f"{out}: the name must end in .json or .jsonl.")
    if out.resolve() == source.resolve():
        raise BadInput(f"{out}: the output would replace the input; give it another name.")
    if not out.parent.is_dir():
        raise BadInput(
            f"{out}: there is no folder {out.parent}; make it with: mkdir -p {quote(str(out.parent))}"
        )
    part, note = out.with_name(out.name + ".part"), out.with_name(out.name + ".part.progress")
    key = _key(source, labeler, out.suffix)
    progress = _read_progress(note, part, key) if resume else Progress(key=key)
    try:
        with (
            open_records(source) as (records, position),
            open(part, "r+b" if progress.rows else "wb", opener=private_opener) as file,
        ):
            file.truncate(progress.written)
            file.seek(progress.written)
            for _ in islice(records, progress.rows):
                pass
            writer = TaskWriter(file, as_list=out.suffix == ".json")
            for _ in write_tasks(records, writer, labeler, progress, source):
                file.flush()
                _write_progress(note, progress)
                if on_progress is not None:
                    on_progress(progress.rows, position())
            writer.end(progress)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadInput(f"{out}: cannot be written ({error.strerror}).") from None
    part.replace(out)
    note.unlink(missing_ok=True)
    return progress


class Writer(Protocol):
    def write(self, task: dict[str, Any], progress: Progress) -> None:
        """Adds the task, and counts it in `progress`. Raises RecursionError."""


def write_tasks(
    records: Records, writer: Writer, labeler: Labeler, progress: Progress, source: Path
) -> Iterator[None]:
    """Write a task with its prediction for each record; yields after each chunk. Raises BadInput, which names
    `source`.
    """
    while chunk := _next_chunk(records):
        _write_chunk(chunk, writer, labeler, progress, source)
        yield


def _next_chunk(records: Records) -> list[Any]:
    start, rows = records.bytes_read, []
    for row in islice(records, CHUNK):
        rows.append(row)
        if records.bytes_read - start > CHUNK_BYTES:
            break
    return rows


def _write_chunk(
    chunk: list[Any], writer: Writer, labeler: Labeler, progress: Progress, source: Path
) -> None:
    columns = [columns_of(row) for row in chunk]
    if progress.rows == 0:
        _check_columns(columns, labeler, source)
    texts = []
    for number, row in enumerate(chunk, start=progress.rows + 1):
        try:
            texts.append(labeler.texts(row))
        except ValueError as error:
            raise BadInput(f"{source}: row {number}: {error}") from None
    truncated = labeler.classifier.truncated
    for row, prediction in zip(columns, labeler.predictions(texts), strict=True):
        try:
            writer.write({"data": row, "predictions": [prediction]}, progress)
        except RecursionError:
            raise BadInput(f"{source}: row {progress.rows + 1} is nested too deeply to be written.") from None
    progress.truncated += labeler.classifier.truncated - truncated
    progress.without_text += sum(not any(text is not None for text in row_texts) for row_texts in texts)


def _check_columns(rows: list[dict[str, Any]], labeler: Labeler, source: Path) -> None:
    """Raises BadInput if no row has a column that the labeling config reads."""
    needed = labeler.columns
    if any(column in row for row in rows for column in needed):
        return
    found = ", ".join(dict.fromkeys(column for row in rows for column in row)) or "none"
    missing = " or ".join(f'"{column}"' for column in needed)
    reader = "the labeling config" if labeler.text is None else "--text"
    raise BadInput(
        f"{source}: no column {missing}, which {reader} names; the columns are: {found}. "
        "Name one with --text, or give --label-config."
    )


@dataclass
class TaskWriter:
    """Writes tasks as a JSON list with one task per line, or as JSONL."""

    file: IO[bytes]
    as_list: bool

    def write(self, task: dict[str, Any], progress: Progress) -> None:
        start = (b",\n" if progress.rows else b"[\n") if self.as_list else b""
        self._put(start + dumps(task) + (b"" if self.as_list else b"\n"), progress)
        progress.rows += 1

    def end(self, progress: Progress) -> None:
        if self.as_list:
            self._put(b"\n]\n" if progress.rows else b"[]\n", progress)

    def _put(self, data: bytes, progress: Progress) -> None:
        self.file.write(data)
        progress.written += len(data)


def _key(source: Path, labeler: Labeler, suffix: str) -> str:
    classifier = labeler.classifier
    return key_of(
        source,
        labeler.version,
        classifier.engine.name,
        classifier.engine.device,
        classifier.batch_tokens,
        labeler.plan,
        labeler.text,
        suffix,
        CHUNK,
    )


def key_of(source: Path, *parts: object) -> str:
    """SHA-256 of everything that decides an output: the source file as it is now, and `parts`. Raises
    BadInput.
    """
    try:
        state = source.stat()
    except OSError as error:
        raise BadInput(f"{source}: cannot be read ({error.strerror}).") from None
    everything = (source.resolve(), state.st_size, state.st_mtime_ns, *parts)
    return hashlib.sha256(repr([str(part) for part in everything]).encode()).hexdigest()


def _write_progress(note: Path, progress: Progress) -> None:
    with atomic_write(note) as file:
        file.write(progress.model_dump_json().encode())


def _read_progress(note: Path, part: Path, key: str) -> Progress:
    """The progress to continue from: the start if there is none. Raises BadInput if it has another key."""
    try:
        progress = Progress.model_validate_json(note.read_bytes())
        is_complete = part.stat().st_size >= progress.written
    except (OSError, ValidationError):
        return Progress(key=key)
    if progress.key != key:
        raise BadInput(
            f"{part}: left over from a run with another input, bundle or labeling config; run without "
            "--resume to start again."
        )
    return progress if is_complete else Progress(key=key)


def dumps(task: Any) -> bytes:
    """One line of JSON. Types that JSON lacks, such as dates in Parquet, become text. Lone surrogates, which
    msgspec cannot encode, are escaped.
    """
    try:
        return msgspec.json.encode(task, enc_hook=str)
    except UnicodeEncodeError:
        return json.dumps(task, default=str).encode()
