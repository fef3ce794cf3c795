"""Readers of CSV, JSONL, JSON and Parquet: they yield rows one by one and never hold the whole file.

They raise ValueError with a sentence that says where the file is wrong, or errors of the libraries, which
`records` turns into such sentences.
"""

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import IO, Any

from server.offline.bounded_stream import BLOCK, MAX_ROW, RowLimitedStream

Rows = Generator[Any, None, None]

PARQUET_ROWS = 64
"""Rows decoded at a time. Arrow stores a repeated value once, but each Python row gets its own copy."""


DELIMITERS = ",;\t"
"""Spreadsheets write semicolons in some languages, and tabs; Label Studio names its TSV export .csv."""


def read_csv(stream: IO[bytes], delimiter: str | None = None) -> Rows:
    """Cells stay text. Without a delimiter, it is the most frequent of DELIMITERS in the header."""
    csv.field_size_limit(sys.maxsize)
    with _lines(stream) as lines:
        header = lines.readline()
        names = re.sub('"[^"]*"', "", header)
        delimiter = delimiter or max(DELIMITERS, key=names.count)
        reader = csv.DictReader(chain([header], lines), delimiter=delimiter)
        for row in reader:
            if None in row:
                raise ValueError(
                    f"line {reader.line_num} has more cells than the header; check its commas and quotes"
                )
            yield row


def read_jsonl(stream: IO[bytes]) -> Rows:
    with _lines(stream) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None
                except RecursionError:
                    raise ValueError(f"line {number} is nested too deeply to be read") from None


def read_json(stream: IO[bytes]) -> Rows:
    """The items of a JSON list."""
    with _lines(stream) as lines:
        text = _JsonText(lines)
        if (char := text.next_char()) != "[":
            raise ValueError(
                "not JSON (the file is empty)"
                if not char
                else "expected a JSON list of objects; a file with one object per line must end in .jsonl"
            )
        if text.next_char() != "]":
            text.position -= 1
            yield text.next_item()
            while (char := text.next_char()) == ",":
                yield text.next_item()
            if char != "]":
                raise ValueError(
                    f"not JSON (expected a comma or the end of the list after row {text.items}, "
                    f"found {char!r})"
                )
        if char := text.next_char():
            raise ValueError(f"not JSON (expected nothing after the list, found {char!r})")


def read_parquet(stream: IO[bytes], counted: RowLimitedStream, groups: range | None) -> Rows:
    """The rows of these row groups, of all with None. Adds the bytes of the decoded rows to `counted`."""
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(stream)
        chosen = range(file.num_row_groups) if groups is None else groups
        for group in map(file.metadata.row_group, chosen):
            if group.total_byte_size > MAX_ROW * max(1, group.num_rows):
                raise ValueError(
                    f"a row is longer than {MAX_ROW // 2**20} MB; write larger values to separate files"
                )
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, row_groups=list(chosen)):
            counted.bytes_read += batch.nbytes
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"not Parquet, or damaged ({error})") from None


READERS: dict[str, Callable[[IO[bytes]], Rows]] = {
    ".csv": read_csv,
    ".tsv": partial(read_csv, delimiter="\t"),
    ".json": read_json,
    ".jsonl": read_jsonl,
}


@contextmanager
def _lines(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """`stream` as UTF-8 text with unchanged line ends, or as the UTF-16 that its first bytes announce; the
    stream stays open for its owner.
    """
    start = stream.peek(2)[:2] if isinstance(stream, io.BufferedReader) else b""
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    try:
        yield text
    finally:
        text.detach()


class _JsonText:
    """JSON text that is read on demand. `text` is what was read; everything before `position` is consumed."""

    SPACE = " \t\r\n"

    def __init__(self, lines: io.TextIOWrapper) -> None:
        self._lines = lines
        self._decode = json.JSONDecoder().raw_decode
        self.text, self.position, self.items = "", 0, 0

    def next_char(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            while self.position < len(self.text):
                self.position += 1
                if self.text[self.position - 1] not in self.SPACE:
                    return self.text[self.position - 1]
            if not self._read_more():
                return ""

    def next_item(self) -> Any:
        if self.next_char():
            self.position -= 1
        self.items += 1
        while True:
            try:
                item, end = self._decode(self.text, self.position)
                # a number at the end of the text may have more digits
                if end < len(self.text) or not self._read_more():
                    self.position = end
                    return item
            except json.JSONDecodeError as error:
                # incomplete JSON fails at its end, an incomplete string at its start
                incomplete = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - 16
                if not incomplete or not self._read_more():
                    raise ValueError(f"not JSON ({error.msg} in row {self.items})") from None
            except RecursionError:
                raise ValueError(f"row {self.items} is nested too deeply to be read") from None

    def _read_more(self) -> bool:
        """Reads as much again as is left, so that a large item is decoded only a few times."""
        piece = self._lines.read(max(BLOCK, len(self.text) - self.position))
        if piece:
            self.text, self.position = self.text[self.position :] + piece, 0
        return bool(piece)
