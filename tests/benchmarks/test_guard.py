"""The guard of speed: its rule, and that it measures, keeps and compares."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import guard
from server.bundle import Bundle


def test_a_ratio_may_fall_by_a_quarter_and_rise_as_it_likes() -> None:
    wanted = {"engine": 40.0, "tokenizer": 4.0}
    assert guard.compare({"engine": 30.0, "tokenizer": 9.0}, wanted) == []
    (failure,) = guard.compare({"engine": 29.9, "tokenizer": 4.0}, wanted)
    assert failure == "engine: 29.9 times faster, 25% below the 40.0 it was; at most 25% is allowed."


def test_what_is_not_in_both_is_told() -> None:
    failures = guard.compare({"new": 2.0}, {"old": 2.0})
    assert [failure.partition(":")[0] for failure in failures] == ["new", "old"]
    assert all("--update" in failure for failure in failures)


def test_the_committed_ratios_are_those_that_are_measured(bundle: Bundle) -> None:
    assert guard.compare(guard.ratios(bundle, ["good film", "a bad plot ."], 1), {}) == guard.compare(
        json.loads(guard.KEPT.read_bytes())["times_faster"], {}
    )


def test_it_keeps_compares_and_refuses(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "guard.json"

    def run(*words: str) -> int:
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "guard",
                "--bundle",
                str(bundle.path),
                "--texts",
                "3",
                "--rounds",
                "1",
                "--kept",
                str(kept),
                *words,
            ],
        )
        with pytest.raises(SystemExit) as ended:
            guard.main()
        return int(ended.value.code or 0)

    assert run("--update") == 0
    written = json.loads(kept.read_bytes())
    assert len(written["times_faster"]) == 3
    kept.write_text(json.dumps(written | {"times_faster": dict.fromkeys(written["times_faster"], 1e9)}))
    capsys.readouterr()
    assert run() == 1
    assert capsys.readouterr().out.count("below the 1000000000.0 it was") == 3


def test_made_up_texts_hold_frequent_tokens_more_often(bundle: Bundle) -> None:
    words = " ".join(guard.of_vocabulary(bundle, 20)).split(" ")
    counts = [words.count(token) for token in bundle.tokens]
    assert counts[0] > counts[5] > counts[-1]
