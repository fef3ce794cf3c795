"""The bundle: a folder with a model, which `export` publishes and `server` serves.

    artifacts/NAME/
        manifest.json   format, name, version, labels, encoders, head, temperature, metrics, parity, and the
                        SHA-256 of each file
        model.onnx      the network: all encoders, and the head
        model.ts        the same network as TorchScript (optional)
        vocab.txt …     what each encoder needs: `server/encoders/`
        labeling_config.xml   a labeling config for these labels (optional)

`logits = Σ features of each encoder × its rows of the head + bias`, divided by the temperature; then softmax,
or sigmoid where a text may have several labels.

`version` is `<name>-<12 hex digits of a content hash>`, so the same content has the same version on every
machine. The hash covers everything that affects predictions. It does not cover metrics, nor model.ts, whose
equal results are proven at export.

Format 1 is one CNN, described among the other entries; format 2 has a list of encoders.
"""

import errno
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import to_json

from server.encoders import rows
from server.encoders.base import Encoder
from server.encoders.kinds import AnySpec
from server.errors import BadBundle

FORMATS = 1, 2
"""The manifest formats that this version of Prelabel writes and reads."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of bundles and of their files."""
LABELING_CONFIG = "labeling_config.xml"
"""The optional labeling config for the labels of the bundle."""
TORCHSCRIPT = "model.ts"
"""The optional TorchScript file."""
MAX_ENCODERS = 8
"""Maximum number of encoders in a bundle."""
OF_FORMAT_1 = "tokenizer", "unknown_id", "pad_id", "widths", "min_length", "features"
"""Entries of the CNN, which are the manifest's own in format 1."""
HASHED_IN_FORMAT_1 = (
    "format", "labels", "tokenizer", "unknown_id", "pad_id", "widths", "min_length", "temperature",
)  # fmt: skip
"""In format 1, the version is a hash of these entries and of the files."""
HASHED = "format", "labels", "encoders", "head", "temperature"
"""The same in format 2."""
MAX_MANIFEST = 2**24
"""Maximum size of manifest.json, in bytes."""


Head = Literal["softmax", "sigmoid"]
"""softmax: one label a text. sigmoid: each label on its own."""


class Manifest(BaseModel):
    """The validated manifest.json. `labels` in class order, `encoders` in the order of their ids in a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 1
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = ""
    model_class: str = "SentimentCNN"
    labels: tuple[str, ...] = Field(min_length=2)
    encoders: tuple[AnySpec, ...] = Field(min_length=1, max_length=MAX_ENCODERS)
    head: Head = "softmax"
    temperature: float = Field(gt=0, allow_inf_nan=False)
    opset: int
    metrics: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    files: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _read_format_1(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("format", 1) == 1 and "encoders" not in content:
            content = dict(content)
            spec = {name: content.pop(name) for name in OF_FORMAT_1 if name in content}
            content["encoders"] = [{"kind": "cnn"} | spec]
        return content

    @model_serializer(mode="wrap")
    def _write_format_1(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = to_dict(self)
        if self.format == 1 and "encoders" in content:
            (spec,) = content.pop("encoders")
            del content["head"]
            content |= {name: spec[name] for name in OF_FORMAT_1}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.format == 1 and [spec.kind for spec in self.encoders] != ["cnn"]:
            raise ValueError("format 1 has one CNN")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be unique")
        if len(self.needed_files) != 1 + sum(len(spec.files) for spec in self.encoders):
            raise ValueError("encoders must not share files")
        if sum(spec.kind == "transformer" for spec in self.encoders) > 1:
            raise ValueError("at most one encoder may be a transformer")
        if not self.needed_files <= set(self.files):
            raise ValueError(f"files must list {' and '.join(sorted(self.needed_files))}")
        if not all(NAME.fullmatch(name) for name in self.files):
            raise ValueError("files must be plain file names, without folders")
        return self

    @property
    def needed_files(self) -> set[str]:
        """The files that decide predictions."""
        return {"model.onnx"}.union(*(spec.files for spec in self.encoders))

    def content_version(self) -> str:
        """`<name>-<12 hex digits>`: SHA-256 of everything that affects predictions."""
        content = self.model_dump(mode="json")
        if self.format == 1:  # entries in the order of the first version of Prelabel
            described = {name: content[name] for name in HASHED_IN_FORMAT_1}
        else:
            described = {name: content[name] for name in HASHED}
        files = " ".join(self.files[name] for name in sorted(self.needed_files))
        digest = hashlib.sha256(to_json(described) + f" {files}".encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


@dataclass(frozen=True)
class Bundle:
    """A validated bundle; `encoders` with their files, `labeling_config` as XML, where it has one."""

    path: Path
    manifest: Manifest
    encoders: tuple[Encoder, ...]
    labeling_config: str | None = None

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def min_length(self) -> int:
        """The fewest tokens of a row."""
        return rows.min_length(self.encoders)

    @property
    def has_tables(self) -> bool:
        """Whether every encoder runs on the CPU as tables."""
        return all(encoder.tables_type for encoder in self.encoders)

    @property
    def tolerance(self) -> float:
        """Largest allowed difference in probability between engines, paddings, and batches."""
        return max(spec.tolerance for spec in self.manifest.encoders)

    @property
    def carry_size(self) -> int:
        """Numbers that a row of many chunks carries from one chunk to the next."""
        return sum(encoder.carry_size(len(self.labels)) for encoder in self.encoders)

    def file(self, name: str) -> Path:
        """The path of a file of the bundle. Raises BadBundle if the manifest does not list it."""
        if name not in self.manifest.files:
            raise BadBundle(
                f"{self.path}: the bundle has no {name}; export it with that file, or choose another engine."
            )
        return self.path / name


def read_bundle(path: Path) -> Bundle:
    """Read a bundle folder and verify every checksum. Raises BadBundle."""
    manifest = _read_manifest(path)
    for name, expected in manifest.files.items():
        try:
            found = sha256_of(path / name)
        except OSError as error:
            raise BadBundle(
                f"{path}: {name} is listed in the manifest but cannot be read ({error.strerror}); "
                "export the bundle again."
            ) from None
        if found != expected:
            raise BadBundle(
                f"{path}: {name} is altered or truncated: its sha256 is {found[:12]}…, but the manifest has "
                f"{expected[:12]}…; export the bundle again."
            )
    if manifest.version != manifest.content_version():
        raise BadBundle(
            f"{path}: the manifest has version {manifest.version!r}, but its content is version "
            f"{manifest.content_version()!r}; export the bundle again."
        )
    encoders = tuple(spec.read(path) for spec in manifest.encoders)
    return Bundle(path, manifest, encoders, _read_labeling_config(path, manifest))


def sha256_of(path: Path) -> str:
    """The SHA-256 in hex. Raises OSError, also if `path` is not a regular file: a pipe or device may never
    end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_labeling_config(path: Path, manifest: Manifest) -> str | None:
    if LABELING_CONFIG not in manifest.files:
        return None
    try:
        return (path / LABELING_CONFIG).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadBundle(
            f"{path}: {LABELING_CONFIG} cannot be read ({error}); make the bundle again."
        ) from None


def _read_manifest(path: Path) -> Manifest:
    file = path / "manifest.json"
    if not path.exists():
        several = "; repeat --bundle for each of several folders" if "," in str(path) else ""
        raise BadBundle(
            f"{path}: there is no such bundle folder{several}; name one with --bundle (PRELABEL_BUNDLE), "
            "or make it with `prelabel train` or `prelabel export`."
        )
    try:
        if file.exists() and not (file.is_file() and file.stat().st_size <= MAX_MANIFEST):
            raise OSError(errno.EINVAL, f"not a regular file of at most {MAX_MANIFEST // 2**20} MB")
        text = file.read_bytes()
    except OSError as error:
        raise BadBundle(
            f"{path}: not a bundle: manifest.json cannot be read ({error.strerror}); create one with "
            "`prelabel export` or `prelabel train`."
        ) from None
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        if where == "format":
            raise BadBundle(
                f"{path}: manifest.json has format {first['input']!r}, but this version of Prelabel reads "
                f"formats {' and '.join(map(str, FORMATS))}; update Prelabel, or export the bundle again."
            ) from None
        raise BadBundle(f"{path}: manifest.json: {where}: {first['msg']}; export the bundle again.") from None
