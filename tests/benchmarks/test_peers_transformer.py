"""Ways to serve a transformer, compared: a run with a tiny model, the list of peers, figures and goals."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from benchmarks.goals import Goal
from benchmarks.peers import peer_list
from benchmarks.peers.transformer import run
from benchmarks.peers.transformer.figures import MIXES, goals, padding_of
from benchmarks.peers.transformer.peer_list import IN_PROCESS, INFINITY, TransformerPeer, peers_of
from benchmarks.peers.transformer.shape import ENCODER_PACKAGE, ENCODER_VERSION
from benchmarks.results import ROOT
from tests.benchmarks.test_peers import PINNED
from tests.conftest import random_texts
from tests.hugging_face.tiny_models import LABELS

TINY_MODEL = """
import sys
from pathlib import Path
from tests.hugging_face.tiny_models import save_classifier
save_classifier(Path(sys.argv[1]))
"""

PEERS = {peer.name: peer for peer in peers_of(("a", "b"))}


def test_every_peer_has_its_program_and_pinned_requirements() -> None:
    assert len(PEERS) == len(peers_of())
    for peer in PEERS.values():
        assert peer.settings
        assert bool(peer.program) != bool(peer.command), peer.name
        if peer.package:
            lines = peer.requirements.read_text("utf-8").splitlines()
            names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
            assert all(PINNED.fullmatch(line) for line in lines), peer.name
            assert peer.package in names, peer.name
    assert ENCODER_PACKAGE
    assert ENCODER_VERSION


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers: install the extra"
)
def test_a_run_measures_prelabel_and_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    # in a process of its own: transformers changes the one that imports it
    subprocess.run([sys.executable, "-c", TINY_MODEL, str(model)], cwd=ROOT, check=True, capture_output=True)
    texts = random_texts(80)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"text": f"{text} {i}", "label": LABELS[i % 3]}) + "\n" for i, text in enumerate(texts)
        )
    )
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(peer_list, "ENVIRONMENTS", environment_of_this_process(tmp_path, "transformers"))
    files = ["--train", rows, "--short", rows, "--long", rows, "--text", "text", "--label", "label"]
    options = ["--long-text", "text", "--model", model, "--only", "prelabel,pipeline_1,onnx_loop,mosec"]
    run.main(["--quick", *map(str, [*files, *options])])
    assert "run `make peers-transformers`" in re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    figures = json.loads((tmp_path / "peers_transformers.json").read_bytes())["figures"]
    for name in ("onnx_loop", "mosec"):
        assert figures["peers"][name] == {
            "failed": "its environment does not exist: run `make peers-transformers`"
        }
    for name in ("prelabel", "pipeline_1"):
        peer = figures["peers"][name]
        assert peer["max_dp"] <= 1e-4
        assert peer["same_label"] == 1
        assert peer["accuracy"] == pytest.approx(figures["eager_accuracy"])
        assert set(peer["mixes"]) == set(MIXES)
        assert min(each["texts_per_s"] for each in peer["mixes"].values()) > 0
        assert min(each["single_p50_ms"] for each in peer["mixes"].values()) > 0
        assert ("clients16_p99_ms" in peer["mixes"]["mixed"]) == (name == "prelabel")


def environment_of_this_process(home: Path, name: str) -> Path:
    """A folder of environments with one, whose interpreter is this process's."""
    program = home / "environments" / name / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    (program.parent.parent / ".done").touch()
    metadata = program.parent.parent / "lib" / "python3" / "site-packages" / "transformers-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 0\n")
    return home / "environments"


def test_responses_are_decoded() -> None:
    expected = [("a", 0.75), ("b", 0.5)]
    assert IN_PROCESS.answers(json.dumps(expected).encode(), ()) == expected
    rows = [[{"label": "b", "score": 0.25}, {"label": "a", "score": 0.75}], [{"label": "b", "score": 0.5}]]
    assert INFINITY.answers(json.dumps({"data": rows}).encode(), ()) == expected
    task = json.loads(PEERS["prelabel"].protocol.body(["x"]))
    assert '<Choice value="a"/><Choice value="b"/>' in task["label_config"]


def test_padding_is_that_of_each_peers_batches() -> None:
    tokens = [10, 100] * 8
    assert padding_of(PEERS["pipeline_1"], tokens) == 0
    assert padding_of(TransformerPeer("x", IN_PROCESS, "", batch=2), tokens) == pytest.approx(200 / 110 - 1)
    assert padding_of(TransformerPeer("x", IN_PROCESS, "", ("serve",)), tokens) is None
    # sorted by length, each batch of eight has texts of one length
    assert padding_of(PEERS["pipeline"], tokens) == 0
    assert padding_of(PEERS["prelabel"], tokens) == 0


def measured(texts_per_s: float, p50: float, **other: Any) -> dict[str, Any]:
    mix = {"texts_per_s": texts_per_s, "single_p50_ms": p50, "padding": 0.05}
    return {
        "mixes": {name: dict(mix) for name in MIXES},
        "accuracy": 0.9,
        "precision": "float32",
        "own_function": True,
        "reference": False,
    } | other


def test_goals_compare_with_the_best_peer() -> None:
    figures = {
        "prelabel": measured(30, 11),
        "prelabel_int8": measured(90, 5, precision="int8", accuracy=0.896),
        "onnx_loop": measured(12, 10, reference=True),
        "onnx_loop_1": measured(10, 12, reference=True),
        "pipeline": measured(18, 20),
        "pipeline_1": measured(15, 20),
        "mosec": measured(25, 20, own_function=False),
        "triton": {"failed": "no server"},
    }
    assert goals(figures, 0.9) == [
        Goal(
            "mixed lengths, float32, texts/s",
            ">= 1.5 × the best peer",
            "1.20 × mosec (1.67 × pipeline)",
            False,
        ),
        Goal(
            "mixed lengths, int8, texts/s",
            ">= 4 × transformers, <= 0.5 points lost",
            "5.00 × pipeline, +0.40 points lost",
            True,
        ),
        Goal("padding, worst mix", "<= 10 %", "5.0% (short)", True),
        Goal(
            "one text after another, p50, worst mix",
            "<= 1.2 × the faster ONNX Runtime loop",
            "1.10 × (short)",
            True,
        ),
    ]
    assert [goal.met for goal in goals({"prelabel": {"failed": "no bundle"}}, 0.9)] == [None] * 4
