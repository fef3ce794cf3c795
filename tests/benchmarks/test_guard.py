"""The speed guard: its rule on both sides of the tolerance, how it computes ratios, and the command."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.guard import Pair
from benchmarks.rounds import Variant
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of


def recorded() -> dict[str, float]:
    ratios: dict[str, float] = json.loads(guard.RECORDED.read_bytes())["times_faster"]
    return ratios


def test_a_ratio_may_fall_by_the_tolerance_and_rise_freely() -> None:
    expected = {"engine": 40.0, "tokenizer": 4.0}
    assert guard.compare({"engine": 30.0, "tokenizer": 9.0}, expected) == []
    (failure,) = guard.compare({"engine": 29.2, "tokenizer": 4.0}, expected)
    assert failure == "engine: 29.2 times faster, 27.0% below the recorded 40.0; the tolerance is 25%."


@pytest.mark.parametrize("name", recorded())
def test_each_recorded_ratio_fails_just_below_the_bound_and_passes_just_above(name: str) -> None:
    bound = recorded()[name] * (1 - guard.TOLERANCE)
    assert guard.compare(recorded() | {name: bound * 1.001}, recorded()) == []
    (failure,) = guard.compare(recorded() | {name: bound * 0.999}, recorded())
    assert failure.startswith(f"{name}: ")


def test_a_name_on_one_side_only_is_a_failure() -> None:
    failures = guard.compare({"new": 2.0}, {"old": 2.0})
    assert [failure.partition(":")[0] for failure in failures] == ["new", "old"]
    assert all("--update" in failure for failure in failures)


def test_the_recorded_names_are_the_measured_ones(bundle: Bundle) -> None:
    with guard.pairs(bundle, ["good film", "a bad plot ."]) as pairs:
        assert pairs.keys() == recorded().keys()


def test_no_recorded_ratio_is_so_low_that_the_guard_could_not_fail() -> None:
    assert min(recorded().values()) * (1 - guard.TOLERANCE) > 5


class Clock:
    """Time that passes only in the timed work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Variant:
        """Takes these seconds in turn, the last of them ever after."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_a_ratio_is_the_loops_time_by_ours() -> None:
    clock = Clock()
    pairs = {"a": Pair(clock.work(0.5), clock.work(20.0)), "b": Pair(clock.work(2.0), clock.work(3.0))}
    assert guard.ratios(pairs, 3, clock) == pytest.approx({"a": 40.0, "b": 1.5})


def test_neither_the_first_call_nor_one_slow_round_changes_a_ratio() -> None:
    clock = Clock()
    pairs = {"a": Pair(clock.work(500.0, 0.5), clock.work(7.0, 20.0, 900.0, 20.0))}
    assert guard.ratios(pairs, 3, clock) == pytest.approx({"a": 40.0})


@pytest.mark.parametrize(("slower", "fails"), [(1.3, False), (1.4, True)])
def test_prelabel_a_third_slower_than_recorded_is_the_bound(slower: float, fails: bool) -> None:
    clock = Clock()
    pairs = {"engine": Pair(clock.work(0.5 * slower), clock.work(20.0))}
    assert bool(guard.compare(guard.ratios(pairs, 3, clock), {"engine": 40.0})) == fails


def run_guard(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, file: Path, *options: str) -> int:
    """The command's exit status, at its smallest size."""
    size = ["--bundle", str(bundle.path), "--texts", "3", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["guard", *size, "--kept", str(file), *options])
    with pytest.raises(SystemExit) as ended:
        guard.main()
    return int(ended.value.code or 0)


def test_the_command_records_compares_and_fails(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guard.json"
    assert run_guard(monkeypatch, bundle, file, "--update") == 0
    written = json.loads(file.read_bytes())
    assert written["times_faster"].keys() == recorded().keys()
    file.write_text(json.dumps(written | {"times_faster": dict.fromkeys(written["times_faster"], 1e9)}))
    capsys.readouterr()
    assert run_guard(monkeypatch, bundle, file) == 1
    assert capsys.readouterr().out.count("below the recorded 1000000000.0") == 3
    file.write_text(json.dumps(written | {"times_faster": dict.fromkeys(written["times_faster"], 1e-9)}))
    assert run_guard(monkeypatch, bundle, file) == 0


def test_made_up_texts_use_frequent_tokens_more_often(bundle: Bundle) -> None:
    words = " ".join(guard.zipf_texts(bundle, 20)).split(" ")
    counts = [words.count(token) for token in cnn_of(bundle.encoders).tokens]
    assert counts[0] > counts[5] > counts[-1]
