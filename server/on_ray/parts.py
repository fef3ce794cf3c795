"""A folder of files as parts, each small enough for one process at a time: what it is made of, what becomes
of it, and whether that is done.

    IN/2026/a.parquet   ─▶   OUT/2026/a.jsonl                                              a small file is one part
    IN/b.jsonl          ─▶   OUT/b-00001-of-00003.jsonl, OUT/b-00002-of-00003.jsonl, …     a large one several, by its size alone
                             OUT/.prelabel/                                                notes of what is done, and what is not whole yet

A part's output takes its name when it is whole, and then gets a note with the key of all that decides it. A
run passes over parts whose note has its key.
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
"""Of a file, as it lies on the disk, from which on it is cut into several parts, where its format can be cut.
"""

NOTES = ".prelabel"
"""The folder of notes. What reads folders of files passes over names that begin with a dot."""


@dataclass(frozen=True)
class Part:
    """`stretch` is what `open_records` takes; `name` lies below OUT and has no suffix yet; `size` in bytes of
    the source.
    """

    source: Path
    stretch: range | None
    name: str
    size: int
    key: str = ""


@dataclass(frozen=True)
class OutputTarget:
    """The folder OUT, by its whole path as other machines need it, and the suffix of its files."""

    folder: Path
    suffix: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.resolve())

    @property
    def notes(self) -> Path:
        return self.folder / NOTES

    def file(self, part: Part) -> Path:
        return self.folder / (part.name + self.suffix)

    def done(self, part: Part) -> Progress | None:
        """What the note says where the output is there and is this very part's; None where the part is still
        to do.
        """
        try:
            found = Progress.model_validate_json(self._note(part).read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.key == part.key and self.file(part).exists() else None

    def publish(self, whole: Path, part: Part, progress: Progress) -> None:
        """The file `whole` becomes the part's output. Raises OSError."""
        note = self._note(part)
        note.parent.mkdir(parents=True, exist_ok=True)
        # an old note must never stand beside a new output
        note.unlink(missing_ok=True)
        self.file(part).parent.mkdir(parents=True, exist_ok=True)
        whole.replace(self.file(part))
        with atomic_write(note) as file:
            file.write(progress.model_dump_json().encode())

    def clean(self) -> None:
        """Removes what processes that died have left."""
        for left in self.notes.glob("*.part"):
            left.unlink(missing_ok=True)

    def _note(self, part: Part) -> Path:
        return self.notes / (part.name + self.suffix + ".json")


def find_parts(
    source: Path, target: OutputTarget, deciding: Sequence[object], part_bytes: int = PART_BYTES
) -> list[Part]:
    """Of a file, or of all files of a folder, by name. `deciding` is what decides an output besides the file.
    Raises BadInput.
    """
    if target.folder == source.resolve() or source.resolve() in target.folder.parents:
        raise BadInput(
            f"{target.folder}: the output would lie in the input's folder, and be read by the next run; "
            "name another folder."
        )
    if target.folder.exists() and not target.folder.is_dir():
        raise BadInput(f"{target.folder}: a file; with --on-ray expected the name of a folder.")
    files = [source] if source.is_file() else _files_in(source)
    names = [_bare(file.relative_to(source) if file != source else Path(file.name)) for file in files]
    for name, times in Counter(names).items():
        if times > 1:
            raise BadInput(
                f"{source}: {times} files would become {name}{target.suffix}; give them names that "
                "differ before the suffix."
            )
    parts = []
    for file, name in zip(files, names, strict=True):
        key = key_of(file, *deciding, target.suffix)
        size = file.stat().st_size
        stretches = _stretches(file, size, part_bytes)
        for number, stretch in enumerate(stretches, start=1):
            numbered = name if len(stretches) == 1 else f"{name}-{number:05}-of-{len(stretches):05}"
            parts.append(Part(file, stretch, numbered, size // len(stretches), f"{key}:{stretch}"))
    return parts


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a file or a folder, found nothing.")
    endings = (*FORMATS, *(form + compression for form in FORMATS[:-1] for compression in COMPRESSIONS))
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(endings) and not _is_hidden(path.relative_to(folder)) and path.is_file()
    )
    if not found:
        raise BadInput(f"{folder}: no file there whose name ends in {', '.join(FORMATS)}.")
    return found


def _is_hidden(path: Path) -> bool:
    """Names that other tools keep for themselves, such as `_SUCCESS` and `.crc`."""
    return any(each.startswith((".", "_")) for each in path.parts)


def _bare(path: Path) -> str:
    form, compression = format_of(path)
    return str(path)[: -len(form + compression)]


def _stretches(file: Path, size: int, part_bytes: int) -> Sequence[range | None]:
    """Bytes of JSONL, row groups of Parquet; other formats say only from their beginning where a row ends."""
    form = format_of(file)
    if size <= part_bytes or form not in ((".jsonl", ""), (".parquet", "")):
        return [None]
    if form[0] == ".jsonl":
        return [range(begin, min(begin + part_bytes, size)) for begin in range(0, size, part_bytes)]
    try:
        groups = parquet.ParquetFile(file).num_row_groups
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file}: not Parquet, or damaged ({error}).") from None
    count = max(1, min(groups, -(-size // part_bytes)))
    return [range(place * groups // count, (place + 1) * groups // count) for place in range(count)]
