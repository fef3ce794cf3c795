"""The bundle: a folder with a model, which `export` publishes and `server` serves.

    artifacts/NAME/
        manifest.json   format, name, version, labels, tokenizer, ids, widths, temperature, metrics, parity,
                        and the SHA-256 of each file
        vocab.txt       one token per line; the id of a token is its line number, from 0
        model.onnx      the folded network
        model.ts        the same network as TorchScript (optional)

`version` is `<name>-<12 hex digits of a content hash>`, so the same content has the same version on every
machine. The hash covers everything that affects predictions: vocabulary, model.onnx, labels, tokenizer, ids.
It does not cover metrics, nor model.ts, whose equal results are proven at export.
"""

import errno
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from server.errors import BadBundle

FORMAT = 1
"""The manifest format that this version of Prelabel writes and reads."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of bundles and of their files."""
MAX_MANIFEST = 2**24
"""Maximum size of manifest.json, in bytes."""


class Manifest(BaseModel):
    """The validated manifest.json. `labels` in class order; `widths` in tokens; `features` = filters ×
    widths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = ""
    model_class: str = "SentimentCNN"
    labels: tuple[str, ...] = Field(min_length=2)
    tokenizer: Literal["basic_english"] = "basic_english"
    unknown_id: int = Field(ge=0)
    pad_id: int = Field(ge=0)
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    min_length: int = Field(ge=1)
    features: int = Field(ge=1)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    opset: int
    metrics: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    files: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be unique")
        if self.min_length != max(self.widths):
            raise ValueError("min_length must be the width of the widest filter")
        if not {"model.onnx", "vocab.txt"} <= set(self.files):
            raise ValueError("files must list model.onnx and vocab.txt")
        if not all(NAME.fullmatch(name) for name in self.files):
            raise ValueError("files must be plain file names, without folders")
        return self

    def content_version(self) -> str:
        """`<name>-<12 hex digits>`: SHA-256 of everything that affects predictions."""
        hashed = {
            "format", "labels", "tokenizer", "unknown_id", "pad_id", "widths", "min_length", "temperature",
        }  # fmt: skip
        files = f"{self.files['model.onnx']} {self.files['vocab.txt']}"
        content = hashlib.sha256(f"{self.model_dump_json(include=hashed)} {files}".encode())
        return f"{self.name}-{content.hexdigest()[:12]}"


@dataclass(frozen=True)
class Bundle:
    """A validated bundle. `vocabulary` maps token → id."""

    path: Path
    manifest: Manifest
    vocabulary: Mapping[str, int]

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def widths(self) -> tuple[int, ...]:
        return self.manifest.widths

    @property
    def features(self) -> int:
        return self.manifest.features

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self.vocabulary)

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
    vocabulary = {token: i for i, token in enumerate(read_vocabulary(path / "vocab.txt"))}
    if not max(manifest.unknown_id, manifest.pad_id) < len(vocabulary):
        raise BadBundle(
            f"{path}: unknown_id and pad_id must be less than {len(vocabulary)}, the number of tokens "
            "in vocab.txt."
        )
    return Bundle(path, manifest, MappingProxyType(vocabulary))


def read_vocabulary(path: Path) -> list[str]:
    """The tokens, one per line, in the order of their ids. Raises BadBundle for bytes that are not UTF-8, an
    empty line or a repeated token.
    """
    try:
        # not splitlines: a token may contain one of Unicode's other line separators
        tokens = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadBundle(
            f"{path}: expected UTF-8 text with one token per line, but byte {error.start} is not UTF-8."
        ) from None
    tokens = [token.removesuffix("\r") for token in tokens]
    seen: set[str] = set()
    for line, token in enumerate(tokens, start=1):
        if not token or token in seen:
            raise BadBundle(
                f"{path}: line {line} {'is empty' if not token else f'repeats the token {token!r}'}; "
                "each line must contain a different token."
            )
        seen.add(token)
    return tokens


def sha256_of(path: Path) -> str:
    """The SHA-256 in hex. Raises OSError, also if `path` is not a regular file: a pipe or device may never
    end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> Manifest:
    file = path / "manifest.json"
    if not path.exists():
        raise BadBundle(
            f"{path}: there is no such bundle folder; name one with --bundle (PRELABEL_BUNDLE), or make it "
            "with `prelabel train` or `prelabel export`."
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
                f"{path}: manifest.json has format {first['input']!r}, but this version of Prelabel "
                "reads format "
                f"{FORMAT}; update Prelabel, or export the bundle again."
            ) from None
        raise BadBundle(f"{path}: manifest.json: {where}: {first['msg']}; export the bundle again.") from None
