"""Splits a folder of files into parts for separate processes, and records which parts are done.

    IN/2026/a.parquet   ─▶   OUT/2026/a.jsonl             a small file is one part
    IN/b.jsonl          ─▶   OUT/b-00001-of-00003.jsonl   a large file is several, by its size alone
                             OUT/b-00002-of-00003.jsonl
                             …
                             OUT/.prelabel/               markers of finished parts, and unfinished output

A part's output is renamed into place when it is complete. Then a marker with a key is written: a hash of
everything that affects the output. Later runs skip parts whose marker has the current key.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from server.errors import BadInput
from server.files import atomic_write
from server.offline.predict_file import Progress, key_of
from server.offline.records import COMPRESSIONS, FORMATS, format_of

PART_BYTES = 2**26
"""Files larger than this, in bytes on disk, are split into several parts if their format allows it."""

STATE_FOLDER = ".prelabel"
"""The folder for markers. Programs that read folders of files ignore names that begin with a dot."""


@dataclass(frozen=True)
class Part:
    """`span`: the part of the file, as for `open_records`; `name`: path below OUT without suffix; `size`:
    bytes of the source; `key`: hash of everything that affects the output.
    """

    source: Path
    span: range | None
    name: str
    size: int
    key: str = ""


@dataclass(frozen=True)
class OutputTarget:
    """The folder OUT, as an absolute path because other machines use it, and the suffix of its files."""

    folder: Path
    suffix: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.resolve())

    @property
    def state_folder(self) -> Path:
        return self.folder / STATE_FOLDER

    def file(self, part: Part) -> Path:
        return self.folder / (part.name + self.suffix)

    def done(self, part: Part) -> Progress | None:
        """The progress of a finished part; None if its output or marker is missing or has another key."""
        try:
            found = Progress.model_validate_json(self._marker(part).read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.key == part.key and self.file(part).exists() else None

    def publish(self, whole: Path, part: Part, progress: Progress) -> None:
        """Move the complete file `whole` into place and write the marker. Raises OSError."""
        marker = self._marker(part)
        marker.parent.mkdir(parents=True, exist_ok=True)
        # an old marker must never vouch for a new output
        marker.unlink(missing_ok=True)
        self.file(part).parent.mkdir(parents=True, exist_ok=True)
        whole.replace(self.file(part))
        with atomic_write(marker) as file:
            file.write(progress.model_dump_json().encode())

    def clean(self) -> None:
        """Remove unfinished files of processes that died."""
        for left in self.state_folder.glob("*.part"):
            left.unlink(missing_ok=True)

    def _marker(self, part: Part) -> Path:
        return self.state_folder / (part.name + self.suffix + ".json")


def find_parts(
    source: Path, target: OutputTarget, deciding: Sequence[object], part_bytes: int = PART_BYTES
) -> list[Part]:
    """The parts of a file, or of all files of a folder, by name. `deciding`: everything apart from the file
    that affects the output. Raises BadInput.
    """
    if target.folder == source.resolve() or source.resolve() in target.folder.parents:
        raise BadInput(
            f"{target.folder}: the output folder is inside the input folder, so the next run would read it; "
            "choose another folder."
        )
    if target.folder.exists() and not target.folder.is_dir():
        raise BadInput(f"{target.folder}: this is a file; with --on-ray the output must be a folder.")
    files = [source] if source.is_file() else _files_in(source)
    names = [_bare(file.relative_to(source) if file != source else Path(file.name)) for file in files]
    for name, times in Counter(names).items():
        if times > 1:
            raise BadInput(
                f"{source}: {times} files have the same output {name}{target.suffix}; rename "
                "them to differ before the suffix."
            )
    parts = []
    for file, name in zip(files, names, strict=True):
        key = key_of(file, *deciding, target.suffix)
        size = file.stat().st_size
        spans = _spans(file, size, part_bytes)
        for number, span in enumerate(spans, start=1):
            numbered = name if len(spans) == 1 else f"{name}-{number:05}-of-{len(spans):05}"
            parts.append(Part(file, span, numbered, size // len(spans), f"{key}:{span}"))
    return parts


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such file or folder.")
    endings = (*FORMATS, *(form + compression for form in FORMATS[:-1] for compression in COMPRESSIONS))
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(endings) and not _is_hidden(path.relative_to(folder)) and path.is_file()
    )
    if not found:
        raise BadInput(f"{folder}: the folder has no file that ends in {', '.join(FORMATS)}.")
    return found


def _is_hidden(path: Path) -> bool:
    """Names that other tools reserve, such as `_SUCCESS` and `.crc`."""
    return any(each.startswith((".", "_")) for each in path.parts)


def _bare(path: Path) -> str:
    form, compression = format_of(path)
    return str(path)[: -len(form + compression)]


def _spans(file: Path, size: int, part_bytes: int) -> Sequence[range | None]:
    """Byte ranges of JSONL, row groups of Parquet. Other formats cannot be split: their rows have no known
    bounds.
    """
    form = format_of(file)
    if size <= part_bytes or form not in ((".jsonl", ""), (".parquet", "")):
        return [None]
    if form[0] == ".jsonl":
        return [range(begin, min(begin + part_bytes, size)) for begin in range(0, size, part_bytes)]
    try:
        groups = parquet.ParquetFile(file).num_row_groups
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file}: not a Parquet file, or damaged ({error}).") from None
    count = max(1, min(groups, -(-size // part_bytes)))
    return [range(index * groups // count, (index + 1) * groups // count) for index in range(count)]
