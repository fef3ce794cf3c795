"""The benchmark of a transformer on a GPU, rehearsed on the CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu_transformer, results
from benchmarks.gpu_transformer import calls_of, names_of, padding, texts_of
from benchmarks.results import ROOT
from benchmarks.transformer_contenders import NAMES
from server.arrays import Ids
from server.engines.devices import Grid
from tests.hugging_face.conftest import Saved

OPTIONS = ("--texts", "30", "--singles", "10", "--rounds", "1", "--tokens", "256")


@pytest.fixture(scope="module")
def transformer(saved: Saved) -> Path:
    return saved("bert")


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *options: str
) -> str:
    """What the benchmark prints; its figures would be saved in `folder`."""
    monkeypatch.setattr(results, "FOLDER", folder)
    monkeypatch.setattr(sys, "argv", ["gpu_transformer", *OPTIONS, *options])
    gpu_transformer.main()
    return capsys.readouterr().out


def figures_of(table: str, name: str) -> list[float]:
    """The cells of a contender's line."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [float(cell.replace(",", "")) for cell in line.split("|")[2:-1]]


def test_a_rehearsal_measures_and_saves_nothing(
    transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["onnx float32", "onnx float16", "onnx not bound float32", "torch eager float32"]
    options = "--transformer", str(transformer), "--device", "cpu", "--only", ",".join(names)
    table = printed(monkeypatch, capsys, tmp_path, *options)
    assert "a rehearsal on the CPU, bert (bert, 32 features), 30 texts" in table
    assert "Failed" not in table
    for name in names:
        assert figures_of(table, name)[-1] <= (1e-4 if "float32" in name else 2e-2)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without a GPU")
def test_contenders_that_fail_are_reported_and_nothing_is_saved(
    transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "onnx float32,torch eager float16"
    options = "--transformer", str(transformer), "--device", "cuda:0", "--only", names
    table = printed(monkeypatch, capsys, tmp_path, *options)
    assert "Failed: onnx float32: " in table
    assert "torch eager float16: CudaUnavailable: torch sees no CUDA device" in table
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rehearsal_with_contenders_that_take_longer(transformer: Path) -> None:
    """In a process of its own: torch.compile leaves processes and settings."""
    names = ["torch.compile float32", "torch eager float16", "onnx not bound float16"]
    assert set(names) < set(NAMES)
    command = [sys.executable, "-m", "benchmarks.gpu_transformer", "--transformer", str(transformer)]
    command += ["--device", "cpu", "--only", ",".join(names), *OPTIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stdout
    for name in names:
        assert figures_of(done.stdout, name)[-1] <= (1e-4 if "float32" in name else 2e-2)


def test_an_unknown_contender_is_an_error() -> None:
    assert names_of("onnx float16, torch eager float32") == ["onnx float16", "torch eager float32"]
    with pytest.raises(ValueError, match="onnx int8"):
        names_of("onnx int8")


def test_texts_are_those_of_the_files_or_short_and_long_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"words\n{name} one\n{name} two\n")
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert sorted(texts_of(files, "words", 10)) == ["a one", "a two", "b one", "b two"]
    lengths = [len(text.split()) for text in texts_of([], "review", 100)]
    assert len(lengths) == 100
    assert min(lengths) < 12
    assert max(lengths) > 200


def row(tokens: int) -> Ids:
    return np.ones(tokens, dtype=np.int32)


def test_calls_have_the_rows_that_the_grid_holds_and_padding_is_counted() -> None:
    grid = Grid((8, 16), 64).within(lambda length: length**2, 512)
    assert (grid.max_rows(8), grid.max_rows(16)) == (8, 2)
    calls = calls_of([row(tokens) for tokens in (16, 5, 8, 16, 7)], grid)
    assert [(ids.shape, lengths.tolist()) for ids, lengths in calls] == [
        ((3, 8), [5, 7, 8]),
        ((2, 16), [16, 16]),
    ]
    assert padding(grid, calls) == pytest.approx(100 * ((4 * 8 + 2 * 16) / 52 - 1))
