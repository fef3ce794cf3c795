"""Rows of a file, one dict each, without ever holding the file: CSV, JSON, JSONL and Parquet, also .xz and .gz.

CSV cells stay text, as they are in the file. A JSON file is a list of objects, or one of Label Studio's own task
files, whose columns lie under "data". A row is whatever the file holds at that place: only a dict can have a text.
"""

import csv
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from server.errors import BadInput

FORMATS = (".csv", ".json", ".jsonl", ".parquet")
COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {".xz": lzma.open, ".gz": gzip.open}

Position = Callable[[], int]
"""How many bytes of the file on disk have been read."""


@contextmanager
def open_records(path: Path) -> Iterator[tuple[Iterator[Any], Position]]:
    """The rows of `path` and how far they were read. Raises BadInput, also while rows are taken."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    decompress = COMPRESSIONS.get(suffixes.pop()) if suffixes and suffixes[-1] in COMPRESSIONS else None
    form = suffixes[-1] if suffixes else ""
    if form not in FORMATS or (form == ".parquet" and decompress):
        raise BadInput(f"{path}: the name must end in {', '.join(FORMATS)}, or one of the first three with {' or '.join(COMPRESSIONS)} behind it.")
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    with raw, decompress(raw) if decompress else nullcontext(raw) as stream:
        readers: dict[str, Callable[[IO[bytes]], Iterator[Any]]] = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}
        with closing(_explained(path, readers[form](stream))) as rows:
            yield rows, raw.tell


def columns_of(row: Any) -> dict[str, Any]:
    """A row's columns: those under "data" for a Label Studio task; none for a row that is no object."""
    if not isinstance(row, dict):
        return {}
    data = row.get("data")
    return data if isinstance(data, dict) else row


def _explained(path: Path, rows: Iterator[Any]) -> Generator[Any, None, None]:
    """`rows`, with whatever a reader raises told as one sentence."""
    try:
        yield from rows
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise BadInput(f"{path}: the compressed data is damaged or cut off ({error}).") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: expected UTF-8 text, found other bytes at {error.start} of a block; convert the file to UTF-8.") from None
    except (csv.Error, ValueError) as error:
        raise BadInput(f"{path}: {error}.") from None


def _csv(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    with _lines(stream) as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the header; check its commas and quotes")
            yield row


def _jsonl(stream: IO[bytes]) -> Iterator[Any]:
    with _lines(stream) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None


@contextmanager
def _lines(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """`stream` as UTF-8 text with its line ends as they are; it stays open for whoever opened it."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def _json(stream: IO[bytes]) -> Iterator[Any]:
    import ijson

    try:
        for prefix, event, _ in ijson.parse(stream):
            if (prefix, event) != ("", "start_array"):
                raise ValueError("expected a JSON list of objects; a file with one object a line should end in .jsonl")
            break
        stream.seek(0)
        yield from ijson.items(stream, "item", use_float=True)
    except ijson.JSONError as error:
        raise ValueError(f"not JSON ({error})") from None


def _parquet(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def read_text(path: Path) -> str:
    """A small text file, whole. Raises BadInput."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected UTF-8 text, found other bytes.") from None
