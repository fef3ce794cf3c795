"""Rows of a file, one dict each, without ever holding the file: CSV, JSON, JSONL and Parquet, also .xz and
.gz.

CSV cells stay text, as they are in the file. A JSON file is a list of objects, or one of Label Studio's own
task files, whose columns lie under "data". A row is whatever the file holds at that place: only a dict can
have a text.
"""

import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from server.errors import BadInput

FORMATS = (".csv", ".json", ".jsonl", ".parquet")
COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {".xz": lzma.open, ".gz": gzip.open}

BLOCK = 2**16
"""Bytes that are unpacked at a time."""

MAX_ROW = 2**24
"""Bytes of a row, unpacked. A file without line ends, or with one quote too many, is a single row."""

Rows = Generator[Any, None, None]

Position = Callable[[], int]
"""How many bytes of the file on disk have been read."""


class Unpacked(io.RawIOBase):
    """A stream that counts what is taken of it, and refuses a row of more than MAX_ROW. Whoever reads it says
    where rows end.
    """

    def __init__(self, stream: "IO[bytes] | Lines") -> None:
        self._stream = stream
        self._row_began = 0
        self.taken = 0

    def row_ended(self) -> None:
        self._row_began = self.taken

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), BLOCK))
        buffer[: len(data)] = data
        self.taken += len(data)
        if self.taken - self._row_began > MAX_ROW + BLOCK:
            raise ValueError(
                f"a row is longer than {MAX_ROW // 2**20} MB; look for a missing line end or a quote too many"
            )
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.taken = self._row_began = self._stream.seek(offset, whence)
        return self.taken


class Lines:
    """Of a file the lines that begin at the bytes of `stretch`, to be read once."""

    def __init__(self, file: IO[bytes], stretch: range) -> None:
        self._file = file
        self._end = self._line_from(stretch.stop)
        self._file.seek(self._line_from(stretch.start))

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, max(0, self._end - self._file.tell())))

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")

    def _line_from(self, offset: int) -> int:
        """Where the first line begins that does so at `offset` or later."""
        if offset == 0:
            return 0
        self._file.seek(offset - 1)
        while (piece := self._file.readline(BLOCK)) and not piece.endswith(b"\n"):
            pass
        return self._file.tell()


class Records:
    """The rows of a file. `taken` is how many bytes of it, unpacked, were read for those so far: the same for
    the same file each time.
    """

    def __init__(self, unpacked: Unpacked, rows: Rows) -> None:
        self._unpacked, self._rows = unpacked, rows

    @property
    def taken(self) -> int:
        return self._unpacked.taken

    def __iter__(self) -> "Records":
        return self

    def __next__(self) -> Any:
        """Raises BadInput."""
        row = next(self._rows)
        self._unpacked.row_ended()
        return row


def format_of(path: Path) -> tuple[str, str]:
    """One of FORMATS, and one of COMPRESSIONS or "". Raises BadInput."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    form = suffixes[-1] if suffixes else ""
    if form not in FORMATS or (form == ".parquet" and compression):
        raise BadInput(
            f"{path}: the name must end in {', '.join(FORMATS)}, or one of the first three with "
            f"{' or '.join(COMPRESSIONS)} behind it."
        )
    return form, compression


@contextmanager
def open_records(path: Path, stretch: range | None = None) -> Iterator[tuple[Records, Position]]:
    """The rows of `path` and how far they were read; with `stretch` those of these row groups (Parquet), or
    whose lines begin at these bytes (JSONL that is not compressed). Raises BadInput, also while rows are
    taken.
    """
    form, compression = format_of(path)
    decompress = COMPRESSIONS.get(compression)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    with raw, decompress(raw) if decompress else nullcontext(raw) as stream:
        readers: dict[str, Callable[[IO[bytes]], Rows]] = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}
        unpacked = Unpacked(stream if stretch is None or form == ".parquet" else Lines(raw, stretch))
        reading: Rows = (
            _parquet(stream, unpacked, stretch)
            if form == ".parquet"
            else readers[form](io.BufferedReader(unpacked, BLOCK))
        )
        where = (
            str(path)
            if stretch is None or form == ".parquet"
            else f"{path}, counted from byte {stretch.start}"
        )
        with closing(_explained(where, reading)) as rows:
            yield Records(unpacked, rows), raw.tell


def columns_of(row: Any) -> dict[str, Any]:
    """A row's columns: those under "data" for a Label Studio task; none for a row that is no object."""
    if not isinstance(row, dict):
        return {}
    data = row.get("data")
    return data if isinstance(data, dict) else row


def _explained(path: str, rows: Rows) -> Rows:
    """`rows`, with whatever a reader raises told as one sentence."""
    try:
        yield from rows
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: the compressed data is damaged or cut off ({error}).") from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: expected UTF-8 text, found other bytes at {error.start} of a block; convert the "
            "file to UTF-8."
        ) from None
    except (csv.Error, ValueError) as error:
        raise BadInput(f"{path}: {error}.") from None


def _csv(stream: IO[bytes]) -> Rows:
    csv.field_size_limit(sys.maxsize)
    with _lines(stream) as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            if None in row:
                raise ValueError(
                    f"line {reader.line_num} has more cells than the header; check its commas and quotes"
                )
            yield row


def _jsonl(stream: IO[bytes]) -> Rows:
    with _lines(stream) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None
                except RecursionError:
                    raise ValueError(
                        f"line {number} is not JSON that can be read: it is nested too deeply"
                    ) from None


@contextmanager
def _lines(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """`stream` as UTF-8 text with its line ends as they are; it stays open for whoever opened it."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def _json(stream: IO[bytes]) -> Rows:
    with _lines(stream) as lines:
        text = _Text(lines)
        if (sign := text.next_sign()) != "[":
            raise ValueError(
                "not JSON (there is nothing in it)"
                if not sign
                else "expected a JSON list of objects; a file with one object a line should end in .jsonl"
            )
        if text.next_sign() != "]":
            text.at -= 1
            yield text.item()
            while (sign := text.next_sign()) == ",":
                yield text.item()
            if sign != "]":
                raise ValueError(
                    f"not JSON (expected a comma or the end of the list behind row {text.items}, found "
                    f"{sign!r})"
                )
        if sign := text.next_sign():
            raise ValueError(f"not JSON (expected nothing behind the list, found {sign!r})")


class _Text:
    """JSON that is read as it is needed; `held` is what was read, of which all before `at` is done with."""

    SPACE = " \t\r\n"

    def __init__(self, lines: io.TextIOWrapper) -> None:
        self._lines = lines
        self._decode = json.JSONDecoder().raw_decode
        self.held, self.at, self.items = "", 0, 0

    def next_sign(self) -> str:
        """The next character that is no space; none at the end."""
        while True:
            while self.at < len(self.held):
                self.at += 1
                if self.held[self.at - 1] not in self.SPACE:
                    return self.held[self.at - 1]
            if not self._read_on():
                return ""

    def item(self) -> Any:
        if self.next_sign():
            self.at -= 1
        self.items += 1
        while True:
            try:
                found, end = self._decode(self.held, self.at)
                # a number at the end of what was read may go on
                if end < len(self.held) or not self._read_on():
                    self.at = end
                    return found
            except json.JSONDecodeError as error:
                # what was cut off is wrong at its end, a text from its beginning
                cut_off = error.msg.startswith("Unterminated string") or error.pos > len(self.held) - 16
                if not cut_off or not self._read_on():
                    raise ValueError(f"not JSON ({error.msg} in row {self.items})") from None
            except RecursionError:
                raise ValueError(
                    f"not JSON that can be read (row {self.items} is nested too deeply)"
                ) from None

    def _read_on(self) -> bool:
        """As much again as is left, so that a large item is not tried too often."""
        piece = self._lines.read(max(BLOCK, len(self.held) - self.at))
        if piece:
            self.held, self.at = self.held[self.at :] + piece, 0
        return bool(piece)


def _parquet(stream: IO[bytes], unpacked: Unpacked, stretch: range | None) -> Rows:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(stream)
        groups = range(file.num_row_groups) if stretch is None else stretch
        for group in map(file.metadata.row_group, groups):
            if group.total_byte_size > MAX_ROW * max(1, group.num_rows):
                raise ValueError(
                    f"a row is longer than {MAX_ROW // 2**20} MB; write larger values to files of their own"
                )
        # few rows at a time: of a value that repeats the file has one copy, and each row would have its own
        for batch in file.iter_batches(batch_size=64, row_groups=list(groups)):
            unpacked.taken += batch.nbytes
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"not Parquet, or damaged ({error})") from None


def read_text(path: Path) -> str:
    """A small text file, whole. Raises BadInput."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected UTF-8 text, found other bytes.") from None
