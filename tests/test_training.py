"""Training, on a few hundred made-up texts: it learns what can be learned, and refuses what cannot."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from export.cnn import Network
from export.training import train_network
from server.errors import BadInput


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    return path


def made_up(count: int, seed: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    filler = ["the", "film", "was", "with", "and"]
    return [(" ".join([*random.choice(filler, 8), ("great", "awful")[i % 2]]), ("yes", "no")[i % 2]) for i in range(count)]


def train(tmp_path: Path) -> Network:
    files = write(tmp_path / "train.csv", made_up(300, 1)), write(tmp_path / "test.csv", made_up(60, 2))
    return train_network(*files, text="review", label="sentiment", epochs=3, seed=5, console=Console(quiet=True))


def test_the_same_seed_gives_the_same_network_and_float16_holds_it(tmp_path: Path) -> None:
    first, second = train(tmp_path), train(tmp_path)
    for name, value in first.cnn.state_dict().items():
        assert torch.equal(value, second.cnn.state_dict()[name])
        assert torch.equal(value, value.half().float())
    assert first.labels == ("no", "yes")
    assert set(first.metrics) >= {"validation_accuracy", "test_accuracy", "test_rows"}


@pytest.mark.parametrize(
    ("train_rows", "test_rows", "message"),
    [
        ([("a", "x"), ("b", "x")], [], "one class only"),
        ([("a", "x"), ("b", "")], [], 'row 2: the column "sentiment" is empty'),
        ([("a", "x"), ("b", "y")] * 5, [("c", "z")], "never shows: z"),
        ([], [], "no rows"),
    ],
)
def test_files_that_cannot_be_trained_on_are_refused(tmp_path: Path, train_rows: list[tuple[str, str]], test_rows: list[tuple[str, str]], message: str) -> None:
    train_file = write(tmp_path / "train.csv", train_rows)
    test_file = write(tmp_path / "test.csv", test_rows) if test_rows else None
    with pytest.raises(BadInput, match=message):
        train_network(train_file, test_file, text="review", label="sentiment", epochs=1, seed=1, console=Console(quiet=True))


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", made_up(10, 1))
    with pytest.raises(BadInput, match='no column "text"; it has: review, sentiment'):
        train_network(path, None, text="text", label="sentiment", epochs=1, seed=1, console=Console(quiet=True))
