"""The fused kernel, run by Triton's interpreter where there is no GPU (make fused-test).

TRITON_INTERPRET=1 must be set before Triton is imported.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch

from export.cnn import Network
from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.engines.base import Engine, pad
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts, tiny_network

pytest.importorskip("triton", reason="triton is not installed (make fused-test brings it)")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()),
    reason="neither Triton's interpreter (make fused-test) nor a GPU",
)


@pytest.fixture(scope="module")
def device() -> str:
    return "cpu" if INTERPRETED else "cuda:0"


@pytest.fixture(scope="module")
def fused(bundle: Bundle, device: str) -> Engine:
    from benchmarks.triton_fused import FusedEngine

    return FusedEngine(bundle, device)


def test_answers_are_those_of_the_tutorial(
    golden: list[dict[str, Any]], oracle_bundle: Bundle, device: str
) -> None:
    from benchmarks.triton_fused import FusedEngine

    fused, tokenizer = FusedEngine(oracle_bundle, device), Tokenizer.of(oracle_bundle)
    rows = [tokenizer.encode(entry["text"])[:2000] for entry in golden]
    expected = open_engine(oracle_bundle, engine="onnx", device="cpu").run(*pad(rows, max(map(len, rows))))
    whole = [i for i, entry in enumerate(golden) if len(tokenizer.encode(entry["text"])) <= 2000]
    assert np.abs(expected[whole] - np.array([golden[i]["probabilities"] for i in whole])).max() <= 1e-5
    assert np.abs(fused.run(*pad(rows, max(map(len, rows)))) - expected).max() <= 1e-5


def test_company_and_padding_change_nothing(fused: Engine, onnx: Engine, bundle: Bundle) -> None:
    rows = [Tokenizer.of(bundle).encode(text)[:300] for text in random_texts(24)]
    alone = np.concatenate([fused.run(*pad([row], len(row))) for row in rows])
    assert np.abs(alone - np.concatenate([onnx.run(*pad([row], len(row))) for row in rows])).max() <= 1e-6
    assert np.abs(fused.run(*pad(rows, 700)) - alone).max() <= 1e-6


@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 4])
def test_the_best_window_may_lie_around_the_seam_of_two_programs(
    fused: Engine, network: Network, extra: int
) -> None:
    from benchmarks.triton_fused import CHUNK

    row = np.full(CHUNK + 60, 5, dtype=np.int32)
    row[CHUNK + extra - 2 : CHUNK + extra + 1] = (2, 14, 3)
    expected = network.cnn.predict([row.tolist()]).numpy()
    assert np.abs(fused.run(*pad([row], len(row))) - expected).max() <= 1e-6


def test_a_negative_maximum_is_zero_as_after_relu(fused: Engine, onnx: Engine) -> None:
    rows = [np.full(5, word, dtype=np.int32) for word in range(16)]
    assert np.abs(fused.run(*pad(rows, 5)) - onnx.run(*pad(rows, 5))).max() <= 1e-6


def test_filters_and_classes_of_any_number(tmp_path: Any, device: str) -> None:
    from benchmarks.triton_fused import FusedEngine

    network = tiny_network(widths=(1, 4), classes=4, seed=3)
    bundle = export_bundle(network, tmp_path / "four", torchscript=False)
    row = np.arange(14, dtype=np.int32)
    expected = network.cnn.predict([row.tolist()]).numpy()
    assert np.abs(FusedEngine(bundle, device).run(*pad([row], 20)) - expected).max() <= 1e-6
