"""The benchmarks run, at a tiny size, and keep the figures that the report is made of."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bandwidth, engine, results
from benchmarks.rounds import measured
from benchmarks.tutorial_loop import TutorialLoop
from server.bundle import Bundle
from server.tokenizer import Tokenizer

Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs a benchmark's `main` with these words, the tiny bundle and three texts; the figures it kept."""

    def run(main: Callable[[], object], name: str, *words: str) -> dict[str, Any]:
        monkeypatch.setattr(results, "FOLDER", tmp_path)
        monkeypatch.setattr(sys, "argv", [name, "--bundle", str(bundle.path), "--texts", "3", "--rounds", "1", *words])
        main()
        kept = results.read(name)
        assert kept is not None
        figures: dict[str, Any] = kept["figures"]
        return figures

    return run


def test_engine(bench: Bench) -> None:
    figures = bench(engine.main, "engine", "--lengths", "8,16", "--rows", "1,2")
    assert set(figures["texts"]) == {"tables", "onnx", "torchscript", "tutorial loop"}
    assert all(each["us_per_text_one_thread"] > 0 and each["us_per_text_all_threads"] > 0 and each["max_dp"] < 1e-5 for each in figures["texts"].values())
    assert len(figures["grid"]) == 3 * 2 * 2
    assert all(line["us_per_row"] > 0 for line in figures["grid"])
    assert figures["times_tutorial"] > 0


def test_bandwidth(bench: Bench) -> None:
    figures = bench(bandwidth.main, "bandwidth", "--sizes", "0.1,0.2,0.4", "--read", "100000")
    assert list(figures["levels"]) == ["L2", "L3", "memory"]
    assert all(value > 0 for level in figures["levels"].values() for value in level.values())


def test_rows_at_places_are_added_up() -> None:
    table = np.arange(4 * bandwidth.NUMBERS, dtype=np.float32).reshape(4, -1)
    assert np.array_equal(bandwidth.add_up(table, np.array([3, 0, 3], np.int32)), table[3] * 2 + table[0])


def test_the_sets_are_of_rising_size() -> None:
    second, third, memory = bandwidth.sizes_here().values()
    assert second < third < memory


def test_the_tutorial_loop_answers_what_the_tutorial_does(oracle_bundle: Bundle, golden: list[dict[str, Any]]) -> None:
    loop = TutorialLoop(oracle_bundle, 1)
    texts = [entry["text"] for entry in golden]
    expected = np.array([entry["probabilities"] for entry in golden])
    rows = Tokenizer.of(oracle_bundle).encode_all(texts)
    assert np.abs(loop.probabilities(rows) - expected).max() < 1e-5
    answers = loop.predict(texts)
    assert [answer["score"] for answer in answers] == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert [oracle_bundle.labels[entry["predicted_class"]] for entry in golden] == [answer["result"][0]["value"]["choices"][0] for answer in answers]


def test_every_way_is_timed_in_every_round_after_one_that_does_not_count() -> None:
    calls: list[str] = []
    seconds = measured({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(each) for each in seconds.values()] == [2, 2]
