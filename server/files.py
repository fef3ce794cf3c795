"""Safe file access: files that only their owner reads, secrets from files, whole-file replacement."""

import os
from collections.abc import Mapping
from pathlib import Path

from server.errors import BadSetting


def private(path: str, flags: int) -> int:
    """An opener for `open`: whatever the umask, only the owner may read and write the file, also one that was
    there before.
    """
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


LARGEST = 65_536
"""Bytes: no secret is longer, and a wrong path may lead to anything."""


def secret(name: str, environ: Mapping[str, str]) -> str:
    """The value of the variable `name`, or of the file that `name`_FILE names, without the line's end; ""
    where neither is set. Raises BadSetting.
    """
    given, named = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not named:
        return given
    if given:
        raise BadSetting(f"{name} and {name}_FILE are both set; keep one of them.")
    try:
        with Path(named).open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise BadSetting(f"{name}_FILE = {named!r}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BadSetting(f"{name}_FILE = {named!r}: expected one line of UTF-8 text.") from None
    if not text or "\n" in text or len(content) > LARGEST:
        raise BadSetting(
            f"{name}_FILE = {named!r}: expected a file that holds the secret, one line, and nothing else."
        )
    return text


def replace_whole(path: Path, data: bytes) -> None:
    """Whoever reads the file finds all of it, or what was there before."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb", opener=private) as file:
        file.write(data)
    beside.replace(path)
