"""The rows of a file by the end of its name: .csv, .tsv, .json, .jsonl, .parquet, all but the last also .xz
and .gz.

A JSON file is a list of objects or of Label Studio tasks, whose columns are in "data". A row is whatever the
file holds there; only a dict can have a text.
"""

import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from server.errors import BadInput
from server.offline.bounded_stream import BLOCK, LineRange, RowLimitedStream
from server.offline.row_readers import READERS, Rows, read_parquet

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {".xz": lzma.open, ".gz": gzip.open}

TEXT, LABEL = "review", "sentiment"
"""Columns of the tutorial's files, read where neither an option nor a labeling config names others."""

Position = Callable[[], int]
"""How many bytes of the file on disk have been read."""


class Records:
    """The rows of a file. `bytes_read` counts the decompressed bytes read for the rows so far; it is the same
    for the same file every time.
    """

    def __init__(self, stream: RowLimitedStream, rows: Rows) -> None:
        self._stream, self._rows = stream, rows

    @property
    def bytes_read(self) -> int:
        return self._stream.bytes_read

    def __iter__(self) -> "Records":
        return self

    def __next__(self) -> Any:
        """Raises BadInput."""
        row = next(self._rows)
        self._stream.row_ended()
        return row


def format_of(path: Path) -> tuple[str, str]:
    """One of FORMATS, and one of COMPRESSIONS or "". Raises BadInput."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    form = suffixes[-1] if suffixes else ""
    if form not in FORMATS or (form == ".parquet" and compression):
        raise BadInput(
            f"{path}: the name must end in {', '.join(FORMATS)}, or in one of the first four followed by "
            f"{' or '.join(COMPRESSIONS)}."
        )
    return form, compression


@contextmanager
def open_records(path: Path, part: range | None = None) -> Iterator[tuple[Records, Position]]:
    """The rows of `path`, and how far the file was read. Raises BadInput, also while rows are taken.

    `part` selects row groups of a Parquet file, or the lines that start within these bytes of an uncompressed
    JSONL file.
    """
    form, compression = format_of(path)
    decompress = COMPRESSIONS.get(compression)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    with raw, decompress(raw) if decompress else nullcontext(raw) as stream:
        where = str(path)
        if form == ".parquet":
            limited = RowLimitedStream(stream)
            reading = read_parquet(stream, limited, part)
        elif part is None:
            limited = RowLimitedStream(stream)
            reading = READERS[form](io.BufferedReader(limited, BLOCK))
        else:
            where = f"{path}, counted from byte {part.start}"
            limited = RowLimitedStream(LineRange(raw, part))
            reading = READERS[form](io.BufferedReader(limited, BLOCK))
        with closing(_with_readable_errors(where, reading)) as rows:
            yield Records(limited, rows), raw.tell


def columns_of(row: Any) -> dict[str, Any]:
    """A row's columns: those in "data" for a Label Studio task, none for a row that is not an object."""
    if not isinstance(row, dict):
        return {}
    data = row.get("data")
    return data if isinstance(data, dict) else row


def _with_readable_errors(path: str, rows: Rows) -> Rows:
    """`rows`, with every error of a reader as BadInput in one sentence."""
    try:
        yield from rows
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: the compressed data is damaged or truncated ({error}).") from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: expected UTF-8 text, found other bytes at {error.start} of a block; convert the "
            "file to UTF-8."
        ) from None
    except (csv.Error, ValueError) as error:
        raise BadInput(f"{path}: {error}.") from None


def read_text(path: Path) -> str:
    """The content of a small text file. Raises BadInput."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected UTF-8 text, found other bytes.") from None
