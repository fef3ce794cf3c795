"""Files in, Label Studio import files out.

    rows ─▶ chunks ─▶ classifier ─▶ tasks with predictions

A chunk is a fixed number of rows, fewer where they are large, so the same file gives the same bytes, however
often it was interrupted. After every chunk a note beside the output says how far it came; a resumed run
starts there. The output takes its name when it is whole.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from pydantic import BaseModel, ValidationError

from server.errors import BadInput
from server.files import private, replace_whole
from server.offline.classifier import CHUNK
from server.offline.labeler import Labeler
from server.offline.records import Records, columns_of, open_records

CHUNK_BYTES = 2**25
"""Of the file, unpacked, from which on a chunk takes no further row."""


class Progress(BaseModel):
    """How far a run came. `key` names everything that decides the output; `written` is in bytes."""

    key: str
    rows: int = 0
    without_text: int = 0
    written: int = 0


def predict_file(
    source: Path,
    out: Path,
    labeler: Labeler,
    *,
    resume: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Progress:
    """Write Label Studio's import file for the rows of `source`; `.json` a list, `.jsonl` a task a line.

    `on_progress(rows done, bytes of the source read)` is called after every chunk. With `resume`, go on where
    a killed run of the same source, bundle and config stopped; without, or where there is nothing to go on
    with, start afresh. Raises BadInput.
    """
    if out.suffix not in (".json", ".jsonl"):
        raise BadInput(f"{out}: the name must end in .json or .jsonl.")
    if out.resolve() == source.resolve():
        raise BadInput(f"{out}: the output would replace the input; give it another name.")
    part, note = out.with_name(out.name + ".part"), out.with_name(out.name + ".part.progress")
    key = _key(source, labeler, out.suffix)
    progress = _read_note(note, part, key) if resume else Progress(key=key)
    try:
        with (
            open_records(source) as (records, position),
            open(part, "r+b" if progress.rows else "wb", opener=private) as file,
        ):
            file.truncate(progress.written)
            file.seek(progress.written)
            for _ in islice(records, progress.rows):
                pass
            writer = TaskWriter(file, as_list=out.suffix == ".json")
            for _ in write_tasks(records, writer, labeler, progress, source):
                file.flush()
                replace_whole(note, progress.model_dump_json().encode())
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
        """Counts what it writes to `progress`. Raises RecursionError."""


def write_tasks(
    records: Records, writer: Writer, labeler: Labeler, progress: Progress, source: Path
) -> Iterator[None]:
    """A task for each of the records, with its prediction; yields after each chunk. Raises BadInput, which
    names `source`.
    """
    while chunk := _next_chunk(records):
        _write_chunk(chunk, writer, labeler, progress, source)
        yield


def _next_chunk(records: Records) -> list[Any]:
    began, rows = records.taken, []
    for row in islice(records, CHUNK):
        rows.append(row)
        if records.taken - began > CHUNK_BYTES:
            break
    return rows


def _write_chunk(
    chunk: list[Any], writer: Writer, labeler: Labeler, progress: Progress, source: Path
) -> None:
    columns = [columns_of(row) for row in chunk]
    wanted = [column for each in labeler.plan.fields for column in each.columns]
    if progress.rows == 0 and not any(name in row for row in columns for name in wanted):
        names = ", ".join(dict.fromkeys(name for row in columns for name in row)) or "none"
        missing = " or ".join(f'"{column}"' for column in wanted)
        raise BadInput(
            f"{source}: no column {missing}, which the labeling config reads; its columns are: {names}. "
            "Rename one or give --label-config."
        )
    texts = [labeler.plan.texts(row) for row in columns]
    for row, answer in zip(columns, labeler.predictions(texts), strict=True):
        try:
            writer.write({"data": row, "predictions": [answer]}, progress)
        except RecursionError:
            raise BadInput(
                f"{source}: row {progress.rows + 1} cannot be written: it is nested too deeply."
            ) from None
    progress.without_text += sum(not any(text is not None for text in each) for each in texts)


@dataclass
class TaskWriter:
    """Tasks as a JSON list with one task a line, or as JSONL."""

    file: IO[bytes]
    as_list: bool

    def write(self, task: dict[str, Any], progress: Progress) -> None:
        lead = (b",\n" if progress.rows else b"[\n") if self.as_list else b""
        self._put(lead + dumps(task) + (b"" if self.as_list else b"\n"), progress)
        progress.rows += 1

    def end(self, progress: Progress) -> None:
        if self.as_list:
            self._put(b"\n]\n" if progress.rows else b"[]\n", progress)

    def _put(self, data: bytes, progress: Progress) -> None:
        self.file.write(data)
        progress.written += len(data)


def _key(source: Path, labeler: Labeler, suffix: str) -> str:
    """Of the source, the model, the engine, the target and the format."""
    classifier = labeler.classifier
    return key_of(
        source,
        labeler.version,
        classifier.engine.name,
        classifier.engine.device,
        classifier.batch_tokens,
        labeler.plan,
        suffix,
        CHUNK,
    )


def key_of(source: Path, *deciding: object) -> str:
    """A digest of what decides an output: the source as it is now, and the rest. Raises BadInput."""
    try:
        state = source.stat()
    except OSError as error:
        raise BadInput(f"{source}: cannot be read ({error.strerror}).") from None
    parts = (source.resolve(), state.st_size, state.st_mtime_ns, *deciding)
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()


def _read_note(note: Path, part: Path, key: str) -> Progress:
    """The progress to go on from; the start where no run left any. Raises BadInput when it was another run's."""
    try:
        progress = Progress.model_validate_json(note.read_bytes())
        whole = part.stat().st_size >= progress.written
    except (OSError, ValidationError):
        return Progress(key=key)
    if progress.key != key:
        raise BadInput(
            f"{part}: left by a run with another input, bundle or labeling config; run without --resume "
            "to start afresh."
        )
    return progress if whole else Progress(key=key)


def dumps(task: Any) -> bytes:
    """One line of JSON. Lone surrogates are beyond msgspec; types that JSON lacks (Parquet has some) become
    text.
    """
    try:
        return msgspec.json.encode(task, enc_hook=str)
    except UnicodeEncodeError:
        return json.dumps(task, default=str).encode()
