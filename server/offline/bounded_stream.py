"""Streams for reading rows: one that limits the size of a row, and one for a range of a file's lines."""

import io
from typing import IO, Any

BLOCK = 2**16
"""Bytes read at a time."""

MAX_ROW = 2**24
"""Bytes of a row after decompression. A file without line ends or with an unclosed quote is one row."""


class RowLimitedStream(io.RawIOBase):
    """Counts the bytes read, and raises ValueError for a row of more than MAX_ROW.

    The reader calls `row_ended` after each row.
    """

    def __init__(self, stream: "IO[bytes] | LineRange") -> None:
        self._stream = stream
        self._row_start = 0
        self.bytes_read = 0

    def row_ended(self) -> None:
        self._row_start = self.bytes_read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), BLOCK))
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        if self.bytes_read - self._row_start > MAX_ROW + BLOCK:
            raise ValueError(
                f"a row is longer than {MAX_ROW // 2**20} MB; look for a missing line end or an unclosed "
                "quote"
            )
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.bytes_read = self._row_start = self._stream.seek(offset, whence)
        return self.bytes_read


class LineRange:
    """The lines of a file that start within a range of bytes. Can be read once."""

    def __init__(self, file: IO[bytes], byte_range: range) -> None:
        self._file = file
        self._end = self._line_from(byte_range.stop)
        self._file.seek(self._line_from(byte_range.start))

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, max(0, self._end - self._file.tell())))

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")

    def _line_from(self, offset: int) -> int:
        """The start of the first line that starts at `offset` or later."""
        if offset == 0:
            return 0
        self._file.seek(offset - 1)
        while (piece := self._file.readline(BLOCK)) and not piece.endswith(b"\n"):
            pass
        return self._file.tell()
