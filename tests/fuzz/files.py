"""Targets that read files: tables for `predict` and `train`, checkpoints, vocabularies, bundles."""

import gzip
import io
import json
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from export.checkpoint import read_state, shape_of
from export.cnn import SentimentCNN
from export.vocabulary import read_vocab
from server.bundle import Bundle, Manifest, read_bundle, sha256_of
from server.errors import BadBundle, BadInput
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.offline.labeler import Labeler
from server.offline.labelled import LabelledSource, open_labelled
from server.offline.predict_file import predict_file
from tests.fuzz.mutate import changed_json, cut
from tests.fuzz.pure import check_words
from tests.fuzz.target import Finding

CORPUS = Path(__file__).with_name("corpus") / "tables"
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".gz": lambda data: gzip.compress(data, 1),
}


class Tables:
    """An input is the suffix of the file name, a line feed, and the file."""

    name, limit, weight = "tables", 5.0, 0.1

    def __init__(self, labeler: Labeler, folder: Path) -> None:
        self._labeler, self._folder = labeler, folder
        self._seeds = [(path.suffix, path.read_bytes()) for path in sorted(CORPUS.iterdir())]
        rows: list[dict[str, Any]] = [
            {"review": "A good film.", "sentiment": "Positive", "n": 1},
            {"review": None, "sentiment": "Negative", "n": None},
        ]
        for compression in ("none", "snappy", "gzip", "zstd"):
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), buffer, compression=compression)
            self._seeds.append((".parquet", buffer.getvalue()))

    def make(self, random: Random) -> bytes:
        suffix, data = random.choice(self._seeds)
        others = [other for _, other in self._seeds]
        if suffix == ".json" and random.random() < 0.5:
            data = changed_json(json.loads(data), random)
        elif suffix == ".jsonl" and random.random() < 0.5:
            data = b"\n".join(
                changed_json(json.loads(line), random) if random.random() < 0.5 else line
                for line in data.splitlines()
            )
        else:
            data = cut(data, random, others)
        if suffix != ".parquet" and random.random() < 0.2:
            packed = random.choice(tuple(PACK))
            suffix, data = suffix + packed, PACK[packed](data)
            if random.random() < 0.5:
                data = cut(data, random)
        return suffix.encode() + b"\n" + data

    def check(self, data: bytes) -> None:
        suffix, _, content = data.partition(b"\n")
        path, out = self._folder / f"in{suffix.decode()}", self._folder / "out.json"
        path.write_bytes(content)
        try:
            done = predict_file(path, out, self._labeler)
        except BadInput as error:
            check_words(str(error))
            if str(path) not in str(error):
                raise Finding(f"an error that does not name the file: {error}") from None
        else:
            tasks = json.loads(out.read_bytes())
            if len(tasks) != done.rows or not all(len(task["predictions"]) == 1 for task in tasks):
                raise Finding("other tasks than rows")
        for config in (None, TUTORIAL_CONFIG.replace("<Text ", "<Paragraphs ")):
            try:
                with open_labelled(LabelledSource(path, label_config=config)) as examples:
                    for _ in examples:
                        pass
            except BadInput as error:
                check_words(str(error))
        path.unlink()


class Evil:
    """Creates the folder `canary` if it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._canary),)


class Pickles:
    """Pickles, plain or in a zip. None of their code may run."""

    limit = 5.0

    def __init__(
        self, name: str, weight: float, seeds: list[bytes], folder: Path, read: Callable[[Path], object]
    ) -> None:
        self.name, self.weight = name, weight
        self._read, self._path, self._canary = read, folder / "in.pt", folder / "executed"
        evil = [pickle.dumps(Evil(self._canary), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
        self._seeds = [*seeds, *evil]
        self._evil = evil

    def make(self, random: Random) -> bytes:
        data = random.choice(self._seeds)
        if data.startswith(b"PK") and random.random() < 0.7:
            return repacked(data, random, self._evil)
        return cut(data, random, self._evil)

    def check(self, data: bytes) -> None:
        self._path.write_bytes(data)
        try:
            self._read(self._path)
        except BadInput as error:
            check_words(str(error))
        if self._canary.exists():
            self._canary.rmdir()
            raise Finding("something in the file was run")


def repacked(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """A zip with changed, duplicated, renamed or compressed members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(buffer, "w") as changed:
        for entry in archive.infolist():
            content, name = archive.read(entry), entry.filename
            changes = random.random() < (0.8 if name.endswith("data.pkl") else 0.1)
            if changes:
                content = random.choice(others) if random.random() < 0.1 else cut(content, random, others)
            elif random.random() < 0.03:
                name = random.choice(("../../x", "/etc/x", name + "x", "a/data.pkl", "a\0b", "é"))
            elif random.random() < 0.03:
                continue
            changed.writestr(
                zipfile.ZipInfo(name),
                content,
                random.choice(
                    (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
                ),
            )
    return buffer.getvalue()


def checkpoints(cnn: SentimentCNN, folder: Path) -> Pickles:
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(cnn.state_dict(), new)
    torch.save(cnn.state_dict(), old, _use_new_zipfile_serialization=False)
    half = io.BytesIO()
    torch.save({key: value.half() for key, value in cnn.state_dict().items()}, half)
    return Pickles(
        "checkpoints",
        0.06,
        [new.getvalue(), old.getvalue(), half.getvalue()],
        folder,
        lambda path: shape_of(read_state(path), path),
    )


def vocabularies(tokens: tuple[str, ...], folder: Path) -> Pickles:
    bare = vocab_pickle(tokens)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("vocab_obj/data.pkl", bare)
        archive.writestr("vocab_obj/version", "3\n")
    return Pickles(
        "vocabularies", 0.05, [bare, buffer.getvalue(), "\n".join(tokens).encode()], folder, read_vocab
    )


def vocab_pickle(tokens: tuple[str, ...]) -> bytes:
    """A pickled torchtext Vocab: an object around another, whose state is (version, [default index],
    [tokens], []).
    """

    def text(words: str) -> bytes:
        data = words.encode()
        return b"X" + len(data).to_bytes(4, "little") + data

    state = b"(" + text("0.0.2") + b"](K\x00e](" + b"".join(map(text, tokens)) + b"e]t"
    native = b"ctorchtext._torchtext\nVocab\n)\x81q\x01" + state + b"b"
    return (
        b"\x80\x02ctorchtext.vocab.vocab\nVocab\n)\x81q\x00}q\x02("
        + text("training")
        + b"\x89"
        + text("vocab")
        + native
        + b"ub."
    )


class Bundles:
    """An input is manifest.json, a separator, and vocab.txt. A checksum or version `@` is replaced by the
    right one, so that the code after these checks is reached.
    """

    name, limit, weight = "bundles", 5.0, 0.05
    MARK = b"\0vocab.txt\0"

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._folder = folder / "bundle"
        self._folder.mkdir()
        (self._folder / "model.onnx").write_bytes(bundle.file("model.onnx").read_bytes())
        manifest = json.loads((bundle.path / "manifest.json").read_bytes())
        self._manifest = manifest | {"version": "@", "files": {"model.onnx": "@", "vocab.txt": "@"}}
        self._vocabulary = bundle.file("vocab.txt").read_bytes()

    def make(self, random: Random) -> bytes:
        manifest, vocabulary = json.dumps(self._manifest).encode(), self._vocabulary
        match random.randrange(4):
            case 0:
                vocabulary = cut(vocabulary, random)
            case 1:
                manifest = cut(manifest, random)
            case _:
                manifest = changed_json(self._manifest, random)
        return manifest + self.MARK + vocabulary

    def check(self, data: bytes) -> None:
        manifest, _, vocabulary = data.partition(self.MARK)
        (self._folder / "vocab.txt").write_bytes(vocabulary)
        (self._folder / "manifest.json").write_bytes(self._made_right(manifest))
        try:
            read_bundle(self._folder)
        except BadBundle as error:
            check_words(str(error))

    def _made_right(self, manifest: bytes) -> bytes:
        try:
            found = json.loads(manifest)
            found["files"] = {
                name: sha256_of(self._folder / name) if checksum == "@" else checksum
                for name, checksum in found["files"].items()
            }
            if found["version"] == "@":
                found["version"] = Manifest.model_validate(found).content_version()
            return json.dumps(found).encode()
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError, IndexError):
            return manifest
