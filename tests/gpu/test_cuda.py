"""The engines on a CUDA device: the same results as on the CPU, at every shape, from many threads, through
HTTP.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch

from server.bundle import Bundle
from server.engines.base import Engine, pad
from server.engines.devices import CudaOptions, Grid
from server.engines.factory import open_engine
from server.engines.onnx_runtime import has_cuda
from server.errors import BadSetting
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts
from tests.serving import predict, running

pytestmark = pytest.mark.gpu

LENGTHS = (8, 64, 500, 512, 1024, 4096, 20_000)


def skip_without_packages(engine: str) -> None:
    if engine == "onnx" and not has_cuda():
        pytest.skip("this ONNX Runtime has no CUDA provider (onnxruntime-gpu)")


@pytest.fixture(params=["onnx", "torchscript"], scope="module")
def cuda(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Engine]:
    skip_without_packages(request.param)
    engine = open_engine(bundle, engine=request.param, device="cuda")
    yield engine
    engine.close()


def test_the_engine_runs_on_the_device(cuda: Engine) -> None:
    assert (cuda.device, cuda.degraded) == ("cuda:0", None)


def test_results_are_those_of_the_cpu(cuda: Engine, onnx: Engine, bundle: Bundle) -> None:
    rows = [Tokenizer.of(bundle).encode(text) for text in random_texts(300)]
    for length in LENGTHS:
        fitting = [row[:length] for row in rows]
        for count in (1, 3, 64, 300):
            call = pad(fitting[:count], length)
            assert np.abs(cuda.run(*call) - onnx.run(*call)).max() <= 1e-5, (count, length)


def test_concurrent_calls_do_not_mix(cuda: Engine, bundle: Bundle) -> None:
    rows = [Tokenizer.of(bundle).encode(text)[:512] for text in random_texts(200)]
    calls = [pad(rows[begin : begin + 5], 512) for begin in range(0, 200, 5)]
    expected = [cuda.run(*call) for call in calls]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda call: cuda.run(*call), 20 * calls))
    for i, result in enumerate(results):
        assert np.abs(result - expected[i % len(calls)]).max() <= 1e-6


def test_a_missing_gpu_is_an_error(cuda: Engine, bundle: Bundle) -> None:
    with pytest.raises(BadSetting, match="device=cuda:99"):
        open_engine(bundle, engine=cuda.name, device="cuda:99")


def test_too_little_memory_is_an_error_that_names_the_setting(bundle: Bundle) -> None:
    skip_without_packages("onnx")
    with pytest.raises(BadSetting, match="PRELABEL_GPU_MEM_LIMIT"):
        open_engine(bundle, engine="onnx", device="cuda", cuda=CudaOptions(Grid((4096,), 2**22), 2**20))


def test_several_gpus_give_the_same_results(bundle: Bundle, onnx: Engine) -> None:
    skip_without_packages("onnx")
    if torch.cuda.device_count() < 2:
        pytest.skip("this host has one GPU")
    both = open_engine(bundle, engine="onnx", device="cuda:0,cuda:1")
    rows = [Tokenizer.of(bundle).encode(text)[:512] for text in random_texts(64)]
    for _ in range(8):
        assert np.abs(both.run(*pad(rows, 512)) - onnx.run(*pad(rows, 512))).max() <= 1e-5


def test_the_server_predicts_on_the_gpu(bundle: Bundle) -> None:
    skip_without_packages("onnx")
    texts = random_texts(200)
    with running(bundle, device="cuda") as client, running(bundle, device="cpu") as other:
        health = client.get("/health").json()
        assert (health["engine"], health["device"], health["degraded"]) == ("onnx", "cuda:0", False)
        answers, expected = predict(client, texts), predict(other, texts)
    for answer, right in zip(answers, expected, strict=True):
        assert answer["result"][0]["value"] == right["result"][0]["value"]
        assert abs(answer["score"] - right["score"]) <= 1e-5


def test_a_caller_that_disconnects_leaves_the_gpu_to_others(bundle: Bundle) -> None:
    skip_without_packages("onnx")
    with running(bundle, device="cuda") as client:
        with pytest.raises(httpx.TimeoutException):
            client.post(
                "/predict",
                json={"tasks": [{"id": i, "data": {"review": "good film " * 400}} for i in range(2000)]},
                timeout=0.01,
            )
        begun = time.monotonic()
        assert predict(client, ["good"])[0]["result"]
        assert time.monotonic() - begun < 60  # it does not hang; benchmarks measure the speed
