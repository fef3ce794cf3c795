"""Safe file access: atomic writes, files that only their owner can read, and secrets from files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from server.errors import BadSetting

MAX_SECRET = 65_536
"""Bytes: no secret is longer, and a wrong path may lead to a file of any size."""


def private_opener(path: str, flags: int) -> int:
    """An `opener` for `open`: only the owner can read and write the file, whatever the umask, and even if the
    file existed before with other permissions.
    """
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which replaces `path` when the block ends without an exception.

    Readers see the old file or the new one, never a part, even if the process is killed. There is no fsync:
    after a power failure the file may be incomplete.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        yield new
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A private file that replaces `path` when the block ends, as `atomic_replace` does."""
    with atomic_replace(path) as new, open(new, "wb", opener=private_opener) as file:
        yield file


def read_secret(name: str, environ: Mapping[str, str]) -> str:
    """The variable `name`, or the content of the file that the variable `name`_FILE names, without its line
    end; "" if neither is set. Raises BadSetting.
    """
    value, file_name = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not file_name:
        return value
    if value:
        raise BadSetting(f"{name} and {name}_FILE are both set; unset one of them.")
    try:
        with Path(file_name).open("rb") as file:
            content = file.read(MAX_SECRET + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise BadSetting(f"{name}_FILE = {file_name!r}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BadSetting(f"{name}_FILE = {file_name!r}: expected one line of UTF-8 text.") from None
    if not text or "\n" in text or len(content) > MAX_SECRET:
        raise BadSetting(
            f"{name}_FILE = {file_name!r}: expected a file with the secret on one line, and nothing else."
        )
    return text
