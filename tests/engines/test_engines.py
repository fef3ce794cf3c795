"""The result for a text depends on the bundle and the text only; how engines are chosen, and their errors."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.cnn import Network
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.engines import factory
from server.engines.base import MAX_CHUNK, Engine, pad
from server.engines.devices import NVIDIA_DRIVER
from server.engines.factory import open_engine
from server.engines.onnx_runtime import has_cuda
from server.errors import BadBundle, BadSetting
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts


@pytest.fixture(scope="module", params=["tables", "onnx", "torchscript"])
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Engine:
    return open_engine(bundle, engine=request.param, device="cpu")


@pytest.mark.parametrize("name", ["tables", "onnx", "torchscript"])
def test_results_are_those_of_the_tutorial(
    golden: list[dict[str, Any]], oracle_bundle: Bundle, name: str
) -> None:
    engine, tokenizer = open_engine(oracle_bundle, engine=name, device="cpu"), Tokenizer.of(oracle_bundle)
    expected = np.array([entry["probabilities"] for entry in golden])
    rows = [tokenizer.encode(entry["text"]) for entry in golden]
    alone = np.concatenate([engine.run(*pad([row], len(row))) for row in rows])
    together = engine.run(*pad(rows, max(map(len, rows)) + 100))
    for results in (alone, together):
        assert np.abs(results - expected).max() <= 1e-5
        assert results.argmax(axis=1).tolist() == [entry["predicted_class"] for entry in golden]


def test_batch_padding_and_repetition_change_nothing(engine: Engine, bundle: Bundle) -> None:
    tokenizer = Tokenizer.of(bundle)
    rows = [tokenizer.encode(text) for text in random_texts(64)]
    long = tokenizer.encode("good film " * 2500)
    alone = np.concatenate([engine.run(*pad([row], len(row))) for row in rows])
    assert np.ptp(alone[:, 0]) > 0.001
    for length in (512, 1024):
        assert np.abs(engine.run(*pad(rows, length)) - alone).max() <= 1e-6
    with_long = np.concatenate([engine.run(*pad([row, long], len(long)))[:1] for row in rows[:8]])
    assert np.abs(with_long - alone[:8]).max() <= 1e-6
    assert np.array_equal(engine.run(*pad(rows, 512)), engine.run(*pad(rows, 512)))


def test_ids_after_a_rows_length_are_ignored(engine: Engine) -> None:
    lengths = np.array([6], dtype=np.int32)
    clean = np.array([[2, 3, 4, 5, 6, 7, 0, 0, 0, 0]], dtype=np.int32)
    dirty = np.array([[2, 3, 4, 5, 6, 7, 9, 9, 3, 3]], dtype=np.int32)
    assert np.array_equal(engine.run(clean, lengths), engine.run(dirty, lengths))


@pytest.mark.parametrize("extra", [0, 1, 3, 4, 5, MAX_CHUNK - 4, MAX_CHUNK])
def test_a_row_longer_than_one_call_runs_in_chunks(engine: Engine, network: Network, extra: int) -> None:
    random = np.random.default_rng(extra)
    row = random.integers(2, 14, MAX_CHUNK + extra).astype(np.int32)
    short = row[:9]
    results = engine.run(*pad([row, short], len(row)))
    expected = network.cnn.predict([row.tolist(), short.tolist()]).numpy()
    assert np.abs(results - expected).max() <= 1e-6


def test_the_best_window_may_lie_across_two_chunks(engine: Engine, network: Network) -> None:
    """Words that occur once, at each index around the boundary: every window that holds them must count."""
    for start in range(MAX_CHUNK - 6, MAX_CHUNK + 3):
        row = np.full(MAX_CHUNK + 40, 5, dtype=np.int32)
        row[start : start + 3] = (2, 14, 3)
        expected = network.cnn.predict([row.tolist()]).numpy()
        assert np.abs(engine.run(*pad([row], len(row))) - expected).max() <= 1e-6


def test_an_unknown_engine_or_device_is_an_error_that_lists_the_valid_ones(bundle: Bundle) -> None:
    for name in ("tensorrt", "fused"):
        with pytest.raises(
            BadSetting, match=f"engine='{name}': it must be one of auto, tables, onnx, torchscript"
        ):
            open_engine(bundle, engine=name)
    with pytest.raises(BadSetting, match="device='tpu'"):
        open_engine(bundle, device="tpu")


@pytest.mark.parametrize("name", ["auto", "tables", "onnx", "torchscript"])
def test_the_engine_does_not_open_if_cuda_was_set_and_does_not_work(bundle: Bundle, name: str) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this host has a CUDA device")
    for device in ("cuda", "cuda:1", "cuda:0,cuda:1"):
        with pytest.raises(BadSetting, match=f"device={device}"):
            open_engine(bundle, engine=name, device=device)


@pytest.mark.parametrize("name", ["auto", "tables", "onnx", "torchscript"])
def test_a_host_without_driver_and_packages_for_a_gpu_is_not_degraded(bundle: Bundle, name: str) -> None:
    if NVIDIA_DRIVER.exists() or has_cuda():
        pytest.skip("this host has a GPU, or the packages for one")
    engine = open_engine(bundle, engine=name, device="auto")
    assert (engine.device, engine.degraded) == ("cpu", None)


@pytest.mark.parametrize(
    ("name", "instead"), [("auto", "tables"), ("onnx", "onnx"), ("torchscript", "torchscript")]
)
def test_a_gpu_that_is_expected_and_does_not_work_is_reported(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    instead: str,
) -> None:
    """The driver's device file exists; the packages of this environment have no CUDA."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or has_cuda():
        pytest.skip("this host has a GPU, or the packages for one")
    driver = tmp_path / "nvidiactl"
    driver.touch()
    monkeypatch.setattr(factory, "NVIDIA_DRIVER", driver)
    engine = open_engine(bundle, engine=name, device="auto")
    assert (engine.name, engine.device) == (instead, "cpu")
    assert engine.degraded
    assert re.search(r"install prelabel\[gpu\]|NVIDIA driver", engine.degraded)
    assert f"DEGRADED, running on the CPU: {engine.degraded}" in caplog.text
    assert open_engine(bundle, engine=name, device="cpu").degraded is None


@pytest.mark.parametrize(("name", "instead"), [("auto", "tables"), ("onnx", "onnx")])
def test_an_onnx_runtime_for_cuda_on_a_host_without_a_gpu_is_degraded(
    bundle: Bundle, name: str, instead: str
) -> None:
    """ONNX Runtime falls back silently or with a message; neither counts as CUDA."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or not has_cuda():
        pytest.skip("this needs onnxruntime-gpu on a host without a GPU")
    engine = open_engine(bundle, engine=name, device="auto")
    assert (engine.name, engine.device) == (instead, "cpu")
    assert engine.degraded
    assert "NVIDIA driver" in engine.degraded


def test_a_model_file_that_does_not_load_is_a_bad_bundle(bundle: Bundle, tmp_path: Any) -> None:
    from dataclasses import replace

    for name, engine in (("model.onnx", "tables"), ("model.onnx", "onnx"), ("model.ts", "torchscript")):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(BadBundle, match="cannot load"):
            open_engine(replace(bundle, path=tmp_path), engine=engine, device="cpu")


def test_the_engine_on_a_cpu_is_tables_unless_another_is_set(bundle: Bundle) -> None:
    assert [open_engine(bundle, engine=name, device="cpu").name for name in ("auto", "tables", "onnx")] == [
        "tables",
        "tables",
        "onnx",
    ]


def test_a_model_with_other_tensors_is_a_bad_bundle(bundle: Bundle, tmp_path: Any) -> None:
    from dataclasses import replace

    import onnx

    model = onnx.load(bundle.file("model.onnx"))
    model.graph.initializer[1].name = "another"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BadBundle, match="are not those that the manifest describes .*taps0"):
        open_engine(replace(bundle, path=tmp_path), engine="tables")


def test_a_vocabulary_larger_than_the_table_is_a_bad_bundle(bundle: Bundle) -> None:
    from dataclasses import replace

    cnn = cnn_of(bundle.encoders)
    with pytest.raises(BadBundle, match="16 rows for 17 tokens"):
        open_engine(
            replace(bundle, encoders=(replace(cnn, vocabulary={**cnn.vocabulary, "another": 16}),)),
            engine="tables",
        )


@pytest.mark.parametrize("engine", ["tables", "onnx"])
def test_a_model_with_tensors_in_other_files_is_a_bad_bundle(
    bundle: Bundle, tmp_path: Any, engine: str
) -> None:
    from dataclasses import replace

    import onnx

    model = onnx.load(bundle.file("model.onnx"))
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="tensors", size_threshold=0
    )
    with pytest.raises(BadBundle, match="lie in other files"):
        open_engine(replace(bundle, path=tmp_path), engine=engine, device="cpu")
