"""Publication: parity with the network, model files, atomic replacement."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.cnn import Network
from export.folded_cnn import FoldedCNN, stored
from export.parity import NotProven, check
from export.publish_checkpoint import export_bundle, prove_network
from server.bundle import Bundle, read_bundle
from server.engines.base import pad
from server.engines.factory import open_engine
from server.errors import BadInput
from tests.conftest import ROOT, tiny_network


def test_the_manifest_holds_the_parity_report(bundle: Bundle) -> None:
    engines = {line["engine"]: line for line in bundle.manifest.parity["engines"]}
    assert set(engines) == {"onnx", "tables", "torchscript"}
    for line in engines.values():
        assert line["max_difference"] <= 1e-5
        assert line["agreement"] == 1.0
        assert line["texts"] > 40


def test_other_shapes_export_too(tmp_path: Path) -> None:
    network = tiny_network(widths=(4, 1), classes=3)
    bundle = export_bundle(network, tmp_path / "other", torchscript=False)
    assert bundle.labels == ("Negative", "Positive", "Neutral")
    assert set(bundle.manifest.files) == {"model.onnx", "vocab.txt"}
    rows = [np.array([2, 3, 4, 5, 6, 7], dtype=np.int32), np.array([9, 9, 9, 2], dtype=np.int32)]
    answer = open_engine(bundle, device="cpu").run(*pad(rows, 64))
    assert np.abs(answer - network.cnn.predict([row.tolist() for row in rows]).numpy()).max() < 1e-6


def test_the_traced_graph_names_no_device(bundle: Bundle) -> None:
    """It would be the one that it was traced on, and calls on another would fail."""
    graph = str(torch.jit.load(bundle.file("model.ts")).inlined_graph)  # type: ignore[no-untyped-call]
    assert "prim::device" in graph
    assert not re.search(r"Device = prim::Constant", graph)


def test_the_same_network_gives_the_same_version(bundle: Bundle, network: Network, tmp_path: Path) -> None:
    assert export_bundle(network, tmp_path / "tiny").version == bundle.version
    assert export_bundle(tiny_network(seed=1), tmp_path / "again" / "tiny").version != bundle.version


def test_a_bundle_with_other_results_fails_the_parity_check(bundle: Bundle) -> None:
    report = prove_network(tiny_network(seed=2), bundle)
    with pytest.raises(NotProven, match="nothing was published"):
        check(report)


def test_the_temperature_is_in_what_engines_return(network: Network, bundle: Bundle, tmp_path: Path) -> None:
    hot = Network(network.cnn, network.tokens, 0, 1, network.labels, temperature=4.0)
    cooled = export_bundle(hot, tmp_path / "hot")
    row = [np.arange(2, 10, dtype=np.int32)]
    logits = np.log(open_engine(bundle, device="cpu").run(*pad(row, 8)))
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum()
    assert np.abs(open_engine(cooled, device="cpu").run(*pad(row, 8)) - expected).max() < 1e-6
    assert cooled.version != bundle.version


def test_a_bundle_is_replaced_only_by_force_and_failure_leaves_it(network: Network, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    first = export_bundle(network, out)
    with pytest.raises(BadInput, match="--force"):
        export_bundle(tiny_network(seed=3), out)
    broken = Network(network.cnn, network.tokens, 0, 1, network.labels, temperature=float("nan"))
    with pytest.raises(Exception, match="temperature"):
        export_bundle(broken, out, force=True)
    assert read_bundle(out).version == first.version
    second = export_bundle(tiny_network(seed=3), out, force=True)
    assert read_bundle(out).version == second.version != first.version
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["has space", "-dash", "ä"])
def test_an_invalid_bundle_name_is_an_error(network: Network, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="becomes the bundle's name"):
        export_bundle(network, tmp_path / name)


def test_float16_weights_are_stored_as_float16_and_others_lose_nothing(network: Network) -> None:
    assert stored(torch.tensor([0.5, 1.25])).dtype is torch.float16
    exact = torch.tensor([0.1, 1e-9])
    assert torch.equal(stored(exact), exact)
    assert FoldedCNN(network.cnn).get_buffer("embedding").dtype is torch.float32


def test_the_onnx_file_is_valid_and_has_no_convolution(bundle: Bundle) -> None:
    model = onnx.load(bundle.file("model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == bundle.manifest.opset
    assert "Conv" not in {node.op_type for node in model.graph.node}


KILLED_RUNS = """
import os, signal, sys
from pathlib import Path
from export import publish, publish_checkpoint
from tests.conftest import tiny_network

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def swap_and_end(new, out, swap=publish._swap):
    swap(new, out)
    end()

# the imports take longer than the runs, so these are forks
for when, swap, out in (("before", end, sys.argv[1]), ("after", swap_and_end, sys.argv[2])):
    if not (child := os.fork()):
        publish._swap = swap
        publish_checkpoint.export_bundle(tiny_network(seed=1), Path(out), torchscript=False, force=True)
    print(when, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_kill_during_a_replacement_leaves_the_old_or_the_new_bundle(bundle: Bundle, tmp_path: Path) -> None:
    outs = [Path(shutil.copytree(bundle.path, tmp_path / when / "tiny")) for when in ("before", "after")]
    command = [sys.executable, "-c", KILLED_RUNS, *map(str, outs)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    status = -signal.SIGKILL
    assert killed.stdout.splitlines() == [f"before {status}", f"after {status}"]
    assert [read_bundle(out).version == bundle.version for out in outs] == [True, False]
    for out in outs:
        assert export_bundle(tiny_network(), out, torchscript=False, force=True).version == bundle.version


def test_without_an_atomic_exchange_the_old_bundle_is_moved_away_first(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.publish._exchange", lambda one, other: False)
    out = tmp_path / "tiny"
    shutil.copytree(bundle.path, out)
    assert export_bundle(tiny_network(seed=1), out, torchscript=False, force=True).version != bundle.version
    assert [each.name for each in tmp_path.iterdir()] == ["tiny"]
