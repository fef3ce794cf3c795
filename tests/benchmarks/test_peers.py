"""The comparison with peers: same network, complete table, runs, and peers that are not installed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks import results
from benchmarks.conv import conv_onnx
from benchmarks.peers import peer_list, run
from benchmarks.peers.peer_list import PEERS, REQUIREMENTS
from benchmarks.peers.protocols import LABEL_STUDIO, LABEL_STUDIO_RELOAD, OPEN_INFERENCE, TEXTS
from benchmarks.peers.servers import PeerFailed, serving
from benchmarks.peers.transformer.peer_list import peers_of
from server.bundle import Bundle
from server.engines.base import Engine, pad
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts

PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+")


def test_the_conv_export_gives_the_bundles_results_without_padding(bundle: Bundle, onnx: Engine) -> None:
    session = onnxruntime.InferenceSession(conv_onnx(bundle), providers=["CPUExecutionProvider"])
    rows = Tokenizer.of(bundle).encode_all([*random_texts(40), "", "good"])
    expected = np.concatenate([onnx.run(*pad([row], len(row))) for row in rows])
    found = np.concatenate(
        [session.run(["probabilities"], {"ids": row[None].astype(np.int64)})[0] for row in rows]
    )
    assert np.ptp(expected[:, 0]) > 0.001
    assert np.abs(found - expected).max() <= 1e-5


def test_every_peer_has_its_server_and_pinned_requirements() -> None:
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    installed = [peer for peer in PEERS if peer.package]
    all_installed = [*installed, *(peer for peer in peers_of() if peer.package)]
    assert {peer.requirements.name for peer in all_installed} == {
        path.name for path in REQUIREMENTS.iterdir()
    }
    for peer in installed:
        lines = peer.requirements.read_text("utf-8").splitlines()
        assert all(PINNED.fullmatch(line) for line in lines), peer.name
        assert any(line.lower().startswith(f"{peer.package}==") for line in lines), peer.name
        assert f"benchmarks.peers.serve.{peer.name}" in " ".join(peer.command), peer.name
        assert (REQUIREMENTS.parent / "serve" / f"{peer.name}.py").exists(), peer.name
        assert peer.settings


def test_a_run_measures_installed_peers_and_reports_the_others(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(peer_list, "ENVIRONMENTS", tmp_path / "nothing")
    run.main(["--quick", "--only", "inprocess,sdk_fair", "--bundle", str(bundle.path)])
    assert "failed: its environment does not exist: run `make peers`" in re.sub(
        r"[\s│]+", " ", capsys.readouterr().out
    )
    figures = json.loads((tmp_path / "peers.json").read_bytes())["figures"]
    assert set(figures) == {"conv", "folded"}
    for peers in figures.values():
        assert peers["sdk_fair"] == {"failed": "its environment does not exist: run `make peers`"}
        measured = peers["inprocess"]
        assert measured.pop("max_dp") <= 1e-5
        assert measured.pop("same_label") == 1
        assert measured.pop("version") == onnxruntime.__version__
        assert "no server" in measured.pop("settings")
        assert set(measured) == {
            "bulk_tasks_per_s",
            "single_p50_ms",
            "single_p99_ms",
            "clients16_requests_per_s",
        }
        assert min(measured.values()) > 0


def test_prelabel_is_measured_once_for_both_tables(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    run.main(["--quick", "--only", "prelabel", "--bundle", str(bundle.path)])
    figures = json.loads((tmp_path / "peers.json").read_bytes())["figures"]
    assert figures["conv"] == figures["folded"]
    assert figures["conv"]["prelabel"]["max_dp"] <= 1e-5
    assert figures["conv"]["prelabel"]["same_label"] == 1


def test_a_server_that_ends_early_is_reported_with_its_error(bundle: Bundle, tmp_path: Path) -> None:
    broken = replace(PEERS[0], command=("{python}", "-c", "import sys; sys.exit('no such model')"))
    with (
        pytest.raises(PeerFailed, match="ended with status 1 .* no such model"),
        serving(broken, tmp_path, bundle.path),
    ):
        pass


def test_responses_of_each_protocol_are_decoded() -> None:
    labels, rows = ("neg", "pos"), [[0.25, 0.75], [0.875, 0.125]]
    expected = [("pos", 0.75), ("neg", 0.875)]
    assert TEXTS.answers(json.dumps(rows).encode(), labels) == expected
    assert TEXTS.answers(json.dumps({"probabilities": rows}).encode(), labels) == expected
    assert (
        OPEN_INFERENCE.answers(
            json.dumps({"outputs": [{"data": [0.25, 0.75, 0.875, 0.125]}]}).encode(), labels
        )
        == expected
    )
    region = {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["pos"]}}
    assert (
        LABEL_STUDIO.answers(json.dumps({"results": [{"result": [region], "score": 0.75}]}).encode(), labels)
        == expected[:1]
    )
    assert json.loads(LABEL_STUDIO_RELOAD.body(["a"])) == json.loads(LABEL_STUDIO.body(["a"])) | {
        "force_reload": True
    }
