"""A bundle is complete and unaltered, or reading it is an error."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.bundle import MAX_MANIFEST, OF_FORMAT_1, Bundle, read_bundle
from server.encoders.cnn.encoder import cnn_of
from server.encoders.lines import read_lines
from server.errors import BadBundle

CNN = {"kind": "cnn", "unknown_id": 0, "pad_id": 1, "widths": [2], "min_length": 2, "features": 4}


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_the_same_content_has_the_same_version_in_any_folder(bundle: Bundle, copy: Path) -> None:
    again = read_bundle(copy)
    assert again.version == bundle.version
    assert again.version.startswith("tiny-")
    assert len(again.version) == len("tiny-") + 12
    assert cnn_of(again.encoders).vocabulary["good"] == 2


def two_cnns(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {name: value for name, value in manifest.items() if name not in OF_FORMAT_1}
    (folder / "manifest.json").write_text(json.dumps(kept | {"encoders": [CNN, CNN]}))


def truncate(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:-1])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "vocab.txt").read_bytes())
    data[3] ^= 1
    (folder / "vocab.txt").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "model.onnx is altered or truncated"),
        (flip_a_bit, "vocab.txt is altered or truncated"),
        (
            lambda folder: (folder / "model.onnx").unlink(),
            "model.onnx is listed in the manifest but cannot be read",
        ),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json"),
        (
            lambda folder: edit_manifest(folder, format=3),
            "format 3, but this version of Prelabel reads formats 1 and 2",
        ),
        (two_cnns, "format 1 has one CNN"),
        (lambda folder: edit_manifest(folder, widths=[2, 3, 10**9], min_length=10**9), "widths"),
        (lambda folder: edit_manifest(folder, labels=["Positive", "Negative"]), "but its content is version"),
        (lambda folder: edit_manifest(folder, version="tiny-000000000000"), "but its content is version"),
        (lambda folder: edit_manifest(folder, temperature=0), "temperature"),
        (lambda folder: edit_manifest(folder, surprise=1), "surprise"),
        (lambda folder: edit_manifest(folder, labels=["A", "A"]), "labels must be unique"),
        *(
            (
                lambda folder, name=name: edit_manifest(
                    folder, files={name: "0", "model.onnx": "0", "vocab.txt": "0"}
                ),
                "plain file name",
            )
            for name in ("../x", "/etc/passwd", "..", "", "a\0b", "a/b", "x" * 300)
        ),
        (lambda folder: edit_manifest(folder, temperature=1e999), "temperature"),
        (lambda folder: edit_manifest(folder, widths=[-1, 5], min_length=5), "widths"),
        (lambda folder: pipe(folder / "vocab.txt"), "vocab.txt is listed in the manifest but cannot be read"),
        (
            lambda folder: (folder / "vocab.txt").unlink() or (folder / "vocab.txt").symlink_to("/dev/zero"),
            "not a regular file",
        ),
        (lambda folder: pipe(folder / "manifest.json"), "not a regular file"),
        (
            lambda folder: (folder / "manifest.json").write_bytes(b" " * (MAX_MANIFEST + 1)),
            "not a regular file of at most 16 MB",
        ),
    ],
)
def test_a_damaged_bundle_is_an_error(copy: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(copy)
    with pytest.raises(BadBundle, match=message):
        read_bundle(copy)


def test_a_file_that_the_bundle_does_not_have_is_named(bundle: Bundle) -> None:
    with pytest.raises(BadBundle, match=r"has no model\.plan"):
        bundle.file("model.plan")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a\n\nb\n", "line 2 is empty"), (b"a\nb\na\n", "line 3 repeats"), (b"\xff\xfe", "UTF-8")],
)
def test_an_invalid_vocabulary_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(data)
    with pytest.raises(BadBundle, match=message):
        read_lines(path)


def test_a_file_of_lines_that_vanishes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"vocab.txt: cannot be read \(No such file or directory\)"):
        read_lines(tmp_path / "vocab.txt")
