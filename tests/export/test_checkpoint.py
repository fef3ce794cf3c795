"""The tutorial's files are read as data; any other file gives an error of one sentence."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export.checkpoint import read_network, read_state, shape_of
from export.cnn import Network, NetworkShape
from export.vocabulary import read_vocab
from server.errors import BadInput
from tests.conftest import WORDS, tiny_network

LABELS = ("Negative", "Positive")


@pytest.fixture
def checkpoint(network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "cnn.pt"
    torch.save(network.cnn.state_dict(), path)
    return path


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", "utf-8")
    return path


def test_the_sizes_come_from_the_shapes(tmp_path: Path, vocab: Path) -> None:
    for widths, classes in [((2, 3, 5), 2), ((1,), 3), ((4, 2), 4)]:
        given = tiny_network(widths, classes)
        path = tmp_path / "other.pt"
        torch.save(given.cnn.state_dict(), path)
        read = read_network(path, vocab, given.labels)
        assert read.cnn.shape == NetworkShape(len(WORDS), 8, 4, widths, classes)
        assert read.temperature == 1.0
        assert torch.equal(read.cnn.predict([[2, 3, 4, 5, 6]]), given.cnn.predict([[2, 3, 4, 5, 6]]))


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("touch executed",)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def repack(path: Path, how: int) -> None:
    torch.save({"fc.bias": torch.zeros(9)}, path)
    with zipfile.ZipFile(path) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data)


NOT_CHECKPOINTS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_bytes(b""), "an empty file"),
    (lambda path: path.write_text("<!DOCTYPE html><p>404"), "HTML"),
    (write_zip, "zip archive"),
    (lambda path: path.write_bytes(pickle.dumps(Evil())), "could run code"),
    (lambda path: torch.save(Evil(), path), "objects other than tensors"),
    (lambda path: path.write_bytes(b"hello"), "other bytes"),
    (lambda path: torch.save({}, path, _use_new_zipfile_serialization=False), "before torch 1.6"),
    (lambda path: repack(path, zipfile.ZIP_DEFLATED), "damaged or compressed"),
    (lambda path: torch.save({"x" * 20_000: torch.zeros(1)}, path), "zip archive"),
    (
        lambda path: torch.save({"fc.bias": torch.zeros(1).expand(2**40)}, path),
        "expected all of its 1099511627776 numbers in the file",
    ),
    (lambda path: torch.save({"fc.bias": torch.zeros(1, device="meta")}, path), "in the file"),
    (lambda path: torch.save([1, 2], path), "not a dict of tensors"),
    (lambda path: None, "cannot be read"),
]


@pytest.mark.parametrize(("write", "message"), NOT_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_an_error_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cnn.pt"
    write(path)
    with pytest.raises(BadInput, match=message) as error:
        read_state(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def without(key: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: state.pop(key)


def with_tensor(key: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: state.update({key: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("embedding.weight"), r"expected a tensor embedding\.weight"),
        (without("convs.1.bias"), r"expected a tensor convs\.1\.bias"),
        (without("convs.0.weight"), r"expected a tensor convs\.0\.weight"),
        (
            with_tensor("convs.1.weight", torch.zeros(4, 9, 3)),
            r"convs\.1\.weight: expected the shape 4 × 8 × any, found 4 × 9 × 3",
        ),
        (with_tensor("fc.weight", torch.zeros(2, 11)), r"fc\.weight: expected the shape any × 12"),
        (with_tensor("fc.bias", torch.zeros(3)), r"fc\.bias: expected the shape 2"),
        (with_tensor("lstm.weight", torch.zeros(3)), "another network"),
        (with_tensor("fc.bias", torch.tensor([0.0, torch.nan])), "NaN"),
        (with_tensor("fc.bias", torch.tensor([0, 1])), "floating-point"),
    ],
)
def test_an_unfit_tensor_is_named_in_the_error(
    network: Network, tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    state = dict(network.cnn.state_dict())
    change(state)
    path = tmp_path / "cnn.pt"
    torch.save(state, path)
    with pytest.raises(BadInput, match=message):
        shape_of(read_state(path), path)


def test_a_vocabulary_or_labels_of_the_wrong_number_are_an_error(
    checkpoint: Path, vocab: Path, tmp_path: Path
) -> None:
    shorter = tmp_path / "shorter.txt"
    shorter.write_text("\n".join(WORDS[:-1]), "utf-8")
    with pytest.raises(BadInput, match="expected 16 tokens, .* found 15"):
        read_network(checkpoint, shorter, LABELS)
    for labels in [("Negative",), ("A", "B", "C"), ("A", "A"), ("A", "")]:
        with pytest.raises(BadInput, match="expected 2 different labels"):
            read_network(checkpoint, vocab, labels)


def test_the_tutorials_pickled_vocabulary_reads_as_torchtext_reads_it(shared: Path) -> None:
    vocabulary = read_vocab(shared / "tutorial" / "vocab_obj.pt")
    assert len(vocabulary.tokens) == 21_501
    assert vocabulary.tokens[:5] == ("<unk>", "<pad>", "the", ".", ",")
    assert vocabulary.tokens[-1] == "émigré"
    assert (vocabulary.unknown_id, vocabulary.pad_id) == (0, 1)


def damaged(vocab_pickle: bytes) -> list[tuple[bytes, str]]:
    return [
        (vocab_pickle[:-100], "damaged pickle"),
        (vocab_pickle.replace(b"torchtext._torchtext\nVocab", b"posix\nsystem"), r"posix\.system"),
        (pickle.dumps(Evil()), r"posix\.system"),
        (pickle.dumps({"a": 1}), "something else"),
        (pickle.dumps(1.5), "BINFLOAT"),
    ]


def test_a_pickle_that_is_no_vocabulary_is_an_error_and_not_executed(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(shared / "tutorial" / "vocab_obj.pt") as archive:
        original = archive.read("vocab_obj/data.pkl")
    for data, message in damaged(original):
        path = tmp_path / "vocab.pkl"
        path.write_bytes(data)
        with pytest.raises(BadInput, match=message):
            read_vocab(path)
    assert not (tmp_path / "executed").exists()


def doubled(times: int) -> bytes:
    """Nested tuples, each twice in the next: little memory, but endless to format."""
    return b"\x80\x04)\x94" + b"h\x00h\x00\x86q\x00" * times + b"h\x00\x93."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (doubled(100), r"with the name"),
        (b"\x80\x02" + b"(t" * 100_000 + b".", "something else"),
        (b"\x80\x02" + b"]" * 4_000_001, "more than 4000000 opcodes"),
        (b"\x80\x02" + b"]" * 2**26, "at most 64 MB"),
    ],
)
def test_a_pickle_that_would_take_forever_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vocab.pkl"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message):
        read_vocab(path)


def test_a_vocabulary_in_a_damaged_zip_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vocab.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab/data.pkl", bytes(range(256)) * 9)
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BadInput, match="damaged zip"):
        read_vocab(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_zip, r"one data\.pkl"),
        (lambda path: path.write_text("<html>"), "HTML"),
        (lambda path: path.write_text("a\nb\n"), "<unk> and <pad>"),
        (lambda path: path.write_text("<unk>\n<pad>\na\na\n"), "repeats"),
        (lambda path: path.write_bytes(b"PK\x03\x04rest"), "expected a torchtext Vocab|damaged"),
        (lambda path: None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_an_error(
    tmp_path: Path, write: Callable[[Path], Any], message: str
) -> None:
    path = tmp_path / "vocab.txt"
    write(path)
    with pytest.raises(BadInput, match=message):
        read_vocab(path)
