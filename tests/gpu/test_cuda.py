"""The engines on a CUDA device: the same answers as on the CPU. Skipped where there is no device."""

import numpy as np
import onnxruntime
import pytest
import torch

from server.bundle import Bundle
from server.engines import Engine, open_engine, pad
from server.tokenizer import Tokenizer
from tests.conftest import random_texts

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["onnx", "torchscript"])
def cuda(request: pytest.FixtureRequest, bundle: Bundle) -> Engine:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if request.param == "onnx" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider (onnxruntime-gpu)")
    return open_engine(bundle, engine=request.param, device="cuda")


def test_the_device_gives_the_answers_of_the_cpu(cuda: Engine, onnx: Engine, bundle: Bundle) -> None:
    assert cuda.device == "cuda"
    rows = [Tokenizer.of(bundle).encode(text) for text in random_texts(64)]
    for length in (512, 1024, 20_000):
        assert np.abs(cuda.run(*pad(rows, length)) - onnx.run(*pad(rows, length))).max() <= 1e-5
