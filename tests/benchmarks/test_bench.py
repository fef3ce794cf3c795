"""The benchmarks run at a tiny size and save the figures that the report needs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import bandwidth, engine, everything, ngrams
from benchmarks.rounds import measured
from benchmarks.tutorial_loop import TutorialLoop
from server.bundle import Bundle
from server.models.tokenizer import Tokenizer
from tests.conftest import ROOT, Benchmark


@pytest.fixture
def bench(figures_of: Benchmark) -> Benchmark:
    """The benchmark at its smallest size: three texts, one round."""
    return lambda main, name, *words: figures_of(main, name, "--texts", 3, "--rounds", 1, *words)


def test_ngrams(bench: Benchmark) -> None:
    figures = bench(ngrams.main, "ngrams")
    assert all(us > 0 for us in figures["microseconds_a_text"].values())
    assert figures["ngrams_a_text"] > 60
    assert set(figures["times_bundle"]) == {"tokenize", "engine"}


def test_engine(bench: Benchmark) -> None:
    figures = bench(engine.main, "engine", "--lengths", "8,16", "--rows", "1,2")
    assert set(figures["texts"]) == {"tables", "onnx", "torchscript", "tutorial loop"}
    assert all(
        each["us_per_text_one_thread"] > 0 and each["us_per_text_all_threads"] > 0 and each["max_dp"] < 1e-5
        for each in figures["texts"].values()
    )
    assert len(figures["grid"]) == 3 * 2 * 2
    assert all(line["us_per_row"] > 0 for line in figures["grid"])
    loop, tables = figures["texts"]["tutorial loop"], figures["texts"]["tables"]
    best = min(loop["us_per_text_one_thread"], loop["us_per_text_all_threads"])
    assert figures["times_tutorial"] == pytest.approx(best / tables["us_per_text_all_threads"])


def test_bandwidth(bench: Benchmark) -> None:
    figures = bench(bandwidth.main, "bandwidth", "--sizes", "0.1,0.2,0.4", "--read", "100000")
    assert list(figures["levels"]) == ["L2", "L3", "memory"]
    assert all(value > 0 for level in figures["levels"].values() for value in level.values())


def test_rows_at_indices_are_summed() -> None:
    table = np.arange(4 * bandwidth.NUMBERS, dtype=np.float32).reshape(4, -1)
    assert np.array_equal(bandwidth.add_up(table, np.array([3, 0, 3], np.int32)), table[3] * 2 + table[0])


def test_the_working_sets_are_in_ascending_order() -> None:
    second, third, memory = bandwidth.sizes_here().values()
    assert second < third < memory


def test_the_tutorial_loop_gives_the_tutorials_predictions(
    oracle_bundle: Bundle, golden: list[dict[str, Any]]
) -> None:
    loop = TutorialLoop(oracle_bundle, 1)
    texts = [entry["text"] for entry in golden]
    expected = np.array([entry["probabilities"] for entry in golden])
    rows = Tokenizer.of(oracle_bundle).encode_all(texts)
    assert np.abs(loop.probabilities(rows) - expected).max() < 1e-5
    answers = loop.predict(texts)
    assert [answer["score"] for answer in answers] == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert [oracle_bundle.labels[entry["predicted_class"]] for entry in golden] == [
        answer["result"][0]["value"]["choices"][0] for answer in answers
    ]


def test_every_variant_is_timed_in_every_round_after_one_that_does_not_count() -> None:
    calls: list[str] = []
    seconds = measured({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(each) for each in seconds.values()] == [2, 2]


def test_a_failure_is_reported_and_the_other_benchmarks_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {"fails": "import sys; sys.exit(3)", "works": f"open({str(tmp_path / 'done')!r}, 'w')"}
    failed = everything.run_all(
        {name: [sys.executable, "-c", program] for name, program in programs.items()}, Console()
    )
    assert failed == ["fails"]
    assert (tmp_path / "done").exists()
    said = capsys.readouterr().out
    assert "fails: ended with status 3" in said
    assert "2 of 2: works" in said


def prelabel_bench(
    *words: str, program: Path = ROOT / "prelabel.py", cwd: Path = ROOT, **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200"} | settings
    return subprocess.run(
        [sys.executable, program, "bench", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_bench_lists_the_benchmarks_with_what_they_measure() -> None:
    listed = prelabel_bench()
    assert listed.returncode == 0, listed.stderr
    for name in [*everything.MODULES, "soak", "annotate", "guard", "report", "all"]:
        assert f"│ {name} " in listed.stdout
    assert "Microseconds a text of each engine" in listed.stdout


def test_without_the_packages_of_development_bench_lists_and_says_what_to_install(tmp_path: Path) -> None:
    for package in ("psutil", "pytest"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    listed = prelabel_bench("--help", PYTHONPATH=str(tmp_path))
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "│ engine " in listed.stdout
    refused = prelabel_bench("bulk", PYTHONPATH=str(tmp_path))
    assert refused.returncode == 1
    assert re.fullmatch(
        r"prelabel bench bulk needs the package psutil, .*: run .* -m pip install --editable .*\n",
        refused.stderr,
    )


def test_bench_runs_one_with_its_own_options_from_any_folder(bundle: Bundle, tmp_path: Path) -> None:
    words = (
        "guard",
        "--bundle",
        str(bundle.path),
        "--texts",
        "3",
        "--rounds",
        "1",
        "--kept",
        "kept.json",
        "--update",
    )
    done = prelabel_bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "classifier" in done.stdout
    assert (tmp_path / "kept.json").exists()


def test_bench_rejects_an_unknown_name() -> None:
    refused = prelabel_bench("nonsense")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == "There is no benchmark 'nonsense': choose one of those above."


def test_bench_says_if_the_benchmarks_are_not_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "prelabel.py", tmp_path)
    refused = prelabel_bench("engine", program=tmp_path / "prelabel.py")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: bench: the benchmarks are not installed with Prelabel")
