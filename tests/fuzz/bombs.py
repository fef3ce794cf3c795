"""Decompression bombs and other oversized files. Each is read or rejected once, and memory must stay flat."""

import gzip
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from server.errors import BadInput
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from tests.fuzz.target import Finding, peak_memory_mb

MOST_MB = 700.0
"""Maximum growth of the process while it reads a bomb: one row of the maximum size as bytes, text and JSON,
and the rows of a chunk.
"""

BLOCK = 2**23

Write = Callable[[Path, int], None]


def repeated(pack: Callable[[bytes], bytes], block: bytes, head: bytes = b"") -> Write:
    """A file of `head` and many blocks: concatenated compressed streams unpack to one file."""

    def write(path: Path, size: int) -> None:
        packed = pack(block)
        with path.open("wb") as file:
            file.write(pack(head))
            for _ in range(size // len(block)):
                file.write(packed)

    return write


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def _gz(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def _rows(row: bytes) -> bytes:
    return row * (BLOCK // len(row))


OTHER = b"x " * 5_000
"""Texts are in another column, so that no model call is measured."""

LONG = b"x " * 500_000

STREAMS: dict[str, Write] = {
    "rows.csv.xz": repeated(_xz, _rows(b"A good film.,%s\n" % OTHER), b"review,other\n"),
    "long rows.csv.xz": repeated(_xz, _rows(b"A good film.,%s\n" % LONG), b"review,other\n"),
    "long rows.jsonl.gz": repeated(_gz, _rows(b'{"review": "A good film.", "other": "%s"}\n' % LONG)),
    "long rows.json.xz": repeated(
        _xz, _rows(b',{"review": "A good film.", "other": "%s"}' % LONG), b'[{"review": ""}'
    ),
}
"""Many rows, which are read to the end. The JSON has no end and is rejected there."""

LINES: dict[str, Write] = {
    "one line.csv.xz": repeated(_xz, b"x" * BLOCK, b"review\n"),
    "one quote.csv.gz": repeated(_gz, b"x\n" * (BLOCK // 2), b'review\n"'),
    "many cells.csv.xz": repeated(_xz, b'"x\n",' * (BLOCK // 5), b"review\n"),
    "one line.jsonl.xz": repeated(_xz, b"x" * BLOCK, b'{"review": "'),
    "one text.json.gz": repeated(_gz, b"x" * BLOCK, b'[{"review": "'),
    "nested.json.xz": repeated(_xz, b"[" * BLOCK, b"["),
    "spaces.jsonl.xz": repeated(_xz, b" " * BLOCK),
}
"""A single endless row, which is rejected."""


def bombs(labeler: Labeler, folder: Path, size: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """All bombs by name. Each raises Finding if it fails."""
    for name, write in (STREAMS | LINES).items():
        yield name, partial(_try, labeler, folder / name, write, size, refused=name in LINES)


def _try(labeler: Labeler, path: Path, write: Write, size: int, *, refused: bool) -> None:
    write(path, size)
    message = ""
    with peak_memory_mb() as grown:
        try:
            predict_file(path, path.with_name("out.jsonl"), labeler)
        except BadInput as error:
            message = str(error)
    for each in (path, path.with_name("out.jsonl"), path.with_name("out.jsonl.part")):
        each.unlink(missing_ok=True)
    if refused and not message:
        raise Finding(f"{path.name}: a row without end was taken")
    if grown and grown[0] > MOST_MB:
        raise Finding(f"{path.name}: the process grew by {grown[0]:.0f} MB")
