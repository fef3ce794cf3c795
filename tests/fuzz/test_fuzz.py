"""A short fuzzing run: the corpus, and the same mutations every time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from tests.conftest import ROOT, tiny_network
from tests.fuzz.bombs import LINES, STREAMS, bombs
from tests.fuzz.http import Answer, InProcess, ThroughSocket, check_answer, seeds
from tests.fuzz.mutate import changed_json, cut
from tests.fuzz.pure import ExtraParams
from tests.fuzz.run import figures, in_this_process, labeler_of, run, show
from tests.fuzz.target import Finding, Target, Totals, attack, problem_with, write
from tests.serving import running

INPUTS = {
    "http": 2_500,
    "http, credentials": 500,
    "labeling configs": 600,
    "extra params": 2_000,
    "webhooks": 2_000,
    "tensors": 2_000,
    "tokenizer": 1_000,
    "tables": 400,
    "checkpoints": 300,
    "vocabularies": 600,
    "bundles": 300,
}


@pytest.fixture(scope="module")
def targets(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("fuzz")
    with in_this_process(bundle, export_bundle(tiny_network(), folder / "other"), folder) as found:
        yield {target.name: target for target in found}


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_is_found(targets: dict[str, Target], name: str) -> None:
    totals = attack(targets[name], 1, lambda totals: totals.inputs < INPUTS[name], keep=None)
    assert totals.findings == {}


def test_the_corpus_is_answered(targets: dict[str, Target]) -> None:
    for call in seeds():
        assert problem_with(targets["http"], call.written()) is None


ONCE_FOUND = (
    b"GET /nowhere?\xff HTTP/1.1\r\n\r\n",
    b"POST /predict/?\xff HTTP/1.1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\ncontent-length: " + b"9" * 5_000 + b"\r\n\r\n{}",
)


@pytest.mark.parametrize("request_", ONCE_FOUND, ids=lambda found: found[:20].decode("latin-1"))
def test_earlier_findings_are_answered(targets: dict[str, Target], request_: bytes) -> None:
    targets["http"].check(request_)


def test_nothing_is_found_through_a_socket(bundle: Bundle) -> None:
    with running(bundle, path_prefix="/p") as client:
        target = ThroughSocket((client.base_url.host, client.base_url.port or 0))
        assert attack(target, 1, lambda totals: totals.inputs < 300, keep=None).findings == {}
        assert client.get("/health").json()["status"] == "UP"


@pytest.mark.parametrize("name", [*STREAMS, *LINES])
def test_bombs_are_read_in_little_memory_or_rejected(bundle: Bundle, tmp_path: Path, name: str) -> None:
    with ExitStack() as stack:
        attempts = dict(bombs(labeler_of(bundle, stack), tmp_path, 24 * 2**20))
        attempts[name]()


def test_the_same_seed_makes_the_same_inputs(targets: dict[str, Target]) -> None:
    for target in targets.values():
        assert [target.make(Random(5)) for _ in range(3)] == [target.make(Random(5))] * 3


def test_mutations_of_nothing() -> None:
    for seed in range(200):
        random = Random(seed)
        assert isinstance(cut(b"", random), bytes)
        assert isinstance(changed_json({}, random), bytes)


class Broken:
    """Fails on every third input."""

    name, limit, weight = "broken one", 1.0, 1.0

    def make(self, random: Random) -> bytes:
        return bytes([random.randrange(3)])

    def check(self, data: bytes) -> None:
        if data == b"\0":
            raise Finding("zero")
        if data == b"\1":
            raise ValueError("one")


def test_findings_are_distinguished_counted_and_kept_with_the_command_that_reproduces_them(
    tmp_path: Path,
) -> None:
    totals: Totals = attack(Broken(), 1, lambda totals: totals.inputs < 300, keep=tmp_path / "found")
    assert sorted(problem.split()[0] for problem in totals.findings) == ["Finding", "ValueError"]
    assert sum(totals.findings.values()) > 100
    kept = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert len(kept) == 4  # the two inputs and their findings
    assert "--replay tests/fuzz/found/broken-one-" in (tmp_path / "found" / kept[1]).read_text()
    assert write(tmp_path / "found", Broken(), b"\0", "zero").read_bytes() == b"\0"


def test_an_endless_input_is_stopped_and_reported() -> None:
    class Endless(Broken):
        limit = 0.01

        def check(self, data: bytes) -> None:
            while True:
                pass

    assert "Hang" in str(problem_with(Endless(), b""))


def test_an_input_that_is_slow_only_once_is_no_finding() -> None:
    class Interrupted(Broken):
        limit, times = 0.01, 0

        def check(self, data: bytes) -> None:
            self.times += 1
            while self.times == 1:
                pass

    assert problem_with(Interrupted(), b"") is None


def test_the_targets_share_the_time_and_results_are_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    all_totals = run([Broken(), ExtraParams()], 0.4, 1, tmp_path)
    assert all(totals.inputs for totals in all_totals)
    problems = {totals.target: totals.findings for totals in all_totals if totals.findings}
    assert list(problems) == ["broken one"]
    show(all_totals, problems, 1)
    assert "broken one: Finding" in capsys.readouterr().out
    found = figures(all_totals, problems, 1.0, 2.0)
    assert (found["findings"], found["memory_mb"]) == (2, {"start": 1.0, "end": 2.0})
    assert found["inputs"] == sum(totals.inputs for totals in all_totals)


def test_the_command_replays_a_kept_input(tmp_path: Path) -> None:
    kept = write(tmp_path, ExtraParams(), b"{}", "something")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--replay", kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extra params: nothing found" in done.stderr


def test_a_response_that_breaks_the_rules_is_a_finding(targets: dict[str, Target]) -> None:
    for status, body in (
        (500, b"{}"),
        (400, b"no json"),
        (404, b'{"detail": "x"}'),
        (200, b'{"results": []}'),
        (200, b"Traceback (most recent call last)"),
    ):
        with pytest.raises(Finding):
            check_answer("POST", "/predict", b'{"tasks": [{}]}', Answer(status, {}, bytearray(body)))
    assert isinstance(targets["http"], InProcess)
