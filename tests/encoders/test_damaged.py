"""Bundles of format 2 that are damaged in a way that checksums do not show: BadBundle, in a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from server.bundle import Bundle, Manifest, read_bundle, sha256_of
from server.engines.factory import open_engine
from server.errors import BadBundle
from tests.encoders.fitted import published


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return published(tmp_path_factory.mktemp("bundles") / "whole", ["words", "cnn"])


@pytest.fixture
def copy(whole: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


def sign(folder: Path) -> None:
    """Write checksums and the version of what is there."""
    content = json.loads((folder / "manifest.json").read_text())
    content["files"] = {name: sha256_of(folder / name) for name in content["files"]}
    content["version"] = Manifest.model_validate(content).content_version()
    (folder / "manifest.json").write_text(json.dumps(content))


def edit_words(folder: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    file = folder / "words.txt"
    file.write_bytes(b"\n".join(edit(file.read_bytes().splitlines())) + b"\n")
    sign(folder)


def edit_tensor(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    model = onnx.load(folder / "model.onnx")
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor).copy()), name))
    onnx.save(model, folder / "model.onnx")
    sign(folder)


def with_nan(array: Any) -> Any:
    array[1] = np.nan
    return array


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit_words(folder, lambda lines: lines[:-1]), "rows for .* n-grams"),
        (lambda folder: edit_words(folder, lambda lines: [*lines, b"one more"]), "rows for .* n-grams"),
        (lambda folder: edit_words(folder, lambda lines: [*lines[:-1], lines[0]]), "repeats"),
        (
            lambda folder: edit_words(folder, lambda lines: [*lines[:-1], lines[0] + b"  "]),
            "repeated or empty",
        ),
        (lambda folder: edit_words(folder, lambda lines: [*lines[:-1], b"!?"]), "has 0 words"),
        (lambda folder: edit_words(folder, lambda lines: [*lines[:-1], b"\xff"]), "UTF-8"),
        (lambda folder: edit_tensor(folder, "idf0", with_nan), "not finite"),
        (lambda folder: edit_tensor(folder, "ngram_head0", with_nan), "not finite"),
        (lambda folder: edit_tensor(folder, "embedding", with_nan), "not finite"),
        (lambda folder: edit_tensor(folder, "head_bias", lambda bias: bias * np.nan), "finite"),
        (lambda folder: edit_tensor(folder, "head_bias", lambda bias: bias[:1]), "head_bias"),
        (lambda folder: edit_tensor(folder, "idf0", lambda idf: idf + 1), "not zero"),
    ],
)
def test_damaged_contents_are_an_error(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(BadBundle, match=message):
        open_engine(read_bundle(copy), device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda words, cnn: [words, words], "must not share files"),
        (lambda words, cnn: [cnn, cnn], "must not share files"),
        (lambda words, cnn: [words | {"shortest": 3}], "shortest must be at most longest"),
        (lambda words, cnn: [words | {"longest": 9}], "less than or equal to 8"),
        (lambda words, cnn: [words | {"unit": "bytes"}], "'words' or 'characters'"),
        (lambda words, cnn: [words | {"kind": "lstm"}], "'cnn', 'ngrams'"),
        (lambda words, cnn: [], "at least 1 item"),
    ],
)
def test_encoders_that_cannot_be_are_an_error(
    copy: Path, changes: Callable[[Any, Any], list[Any]], message: str
) -> None:
    content = json.loads((copy / "manifest.json").read_text())
    content["encoders"] = changes(*content["encoders"])
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BadBundle, match=message):
        read_bundle(copy)
