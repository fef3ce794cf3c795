"""The GPU benchmark, rehearsed on the CPU: it runs, and reports what failed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, results
from benchmarks.contenders import Run
from server.bundle import Bundle


@pytest.fixture
def rehearsal(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    options = [
        "--device",
        "cpu",
        "--texts",
        "12",
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--tokens",
        "512",
        "--workers",
        "1",
        "--bundle",
        str(bundle.path),
    ]
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    gpu.main()
    return capsys.readouterr().out


def test_a_rehearsal_runs_every_contender_and_saves_nothing(rehearsal: str, tmp_path: Path) -> None:
    for name in ("onnx", "torchscript", "onnx, not bound", "onnx, CUDA graphs", "ORT Conv", "torch eager"):
        assert f"| {name} |" in rehearsal
    assert "Failed" not in rehearsal
    assert "a rehearsal on the CPU" in rehearsal
    assert not list(tmp_path.iterdir())


def test_a_contender_that_fails_is_reported_and_the_others_are_measured(bundle: Bundle) -> None:
    def broken() -> Run:
        raise RuntimeError("no such kernel")

    found = gpu.measured(broken, [], np.zeros((0, 2), dtype=np.float32), [], 1, "broken")
    assert found == {"failed": "RuntimeError: no such kernel"}
