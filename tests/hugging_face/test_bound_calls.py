"""Transformers in the bound calls of a GPU: the same code on the CPU, and on a GPU if there is one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.publish_transformer import TransformerOptions, export_transformer
from server.arrays import Ids
from server.bundle import Bundle
from server.encoders.transformer.encoder import Precision, TransformerEncoder
from server.engines.base import Engine, pad
from server.engines.devices import GPU_MEM_LIMIT, IN_FLIGHT, CudaOptions, Grid
from server.engines.factory import open_engine
from server.engines.onnx_cuda import BoundCalls, grid_of, or_max_length
from server.engines.onnx_runtime import CPU, has_cuda, open_session
from server.engines.pinned_memory import PlainHostBuffers
from server.models.tokenizer import Tokenizer
from server.models.windows import Windows
from tests.conftest import random_texts
from tests.hugging_face.conftest import Exported, Saved
from tests.hugging_face.test_export import labelled
from tests.hugging_face.tiny_models import LABELS

GRID = Grid((8, 32, 512), 256)
"""The longest length is that of the network, 64 tokens, in its place."""


@pytest.fixture(scope="module", params=["bert", "deberta-v2", "modernbert"])
def transformer(request: pytest.FixtureRequest, exported: Exported) -> Bundle:
    return exported(request.param)


@pytest.fixture(scope="module")
def bound(transformer: Bundle) -> BoundCalls:
    grid = grid_of(transformer, CudaOptions(GRID))
    assert grid.lengths == (8, 32, 64)
    return BoundCalls(transformer, open_session(transformer, (CPU, {})), "cpu", grid, PlainHostBuffers())


@pytest.fixture(scope="module")
def engine(transformer: Bundle) -> Engine:
    return open_engine(transformer, engine="onnx", device="cpu")


@pytest.fixture(scope="module")
def rows(transformer: Bundle) -> list[Ids]:
    texts = ["", "good film", *random_texts(60)]
    return list(Windows.of(Tokenizer.of(transformer).encode_all(texts), transformer.encoders).rows)


@pytest.mark.parametrize("count", [1, 2, 3, 62])
def test_any_number_of_rows_has_the_result_of_the_cpu_engine(
    bound: BoundCalls, engine: Engine, rows: list[Ids], count: int
) -> None:
    """62 rows are more than a call of the grid has."""
    call = pad(rows[:count], 64)
    assert np.abs(bound.run(*call) - engine.run(*call)).max() <= 1e-5


def test_each_row_at_its_own_length(bound: BoundCalls, engine: Engine, rows: list[Ids]) -> None:
    assert {len(row) for row in rows} >= {2, 64}
    for row in rows:
        call = pad([row], len(row))
        assert np.abs(bound.run(*call) - engine.run(*call)).max() <= 1e-5


def test_a_result_does_not_depend_on_earlier_calls(bound: BoundCalls, rows: list[Ids]) -> None:
    """Ids of an earlier call stay in the buffers."""
    short = pad(rows[:2], 20)
    before = bound.run(*short)
    bound.run(*pad(rows, 64))
    bound.run(*pad([np.full(32, 14, dtype=np.int32)] * 8, 32))
    assert np.array_equal(bound.run(*short), before)


def test_concurrent_calls_do_not_mix(bound: BoundCalls, rows: list[Ids]) -> None:
    calls = [pad(rows[begin : begin + 3], 64) for begin in range(0, 60, 3)]
    expected = [bound.run(*call) for call in calls]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda call: bound.run(*call), 3 * calls))
    assert all(np.array_equal(result, expected[i % len(calls)]) for i, result in enumerate(results))


@pytest.fixture
def sized(exported: Exported) -> Callable[[int, int, Precision], Bundle]:
    """A bundle that says that its network has this size. Its file stays small."""

    def of(features: int, max_length: int, precision: Precision) -> Bundle:
        bundle = exported("bert")
        encoder = bundle.encoders[0]
        assert isinstance(encoder, TransformerEncoder)
        size = {"features": features, "max_length": max_length, "precision": precision}
        return replace(bundle, encoders=(replace(encoder, spec=encoder.spec.model_copy(update=size)),))

    return of


@pytest.mark.parametrize(("features", "heads"), [(384, 12), (768, 12), (1024, 16)])
def test_the_default_settings_leave_memory_for_attention(
    sized: Callable[[int, int, Precision], Bundle], features: int, heads: int
) -> None:
    """65,536 padded tokens would be 128 rows of 512, whose attention takes 1.6 GB for each of several
    intermediate results, in each of three calls.
    """
    sizes: dict[Precision, int] = {"float32": 4, "float16": 2}
    for precision, size in sizes.items():
        grid = grid_of(sized(features, 512, precision), CudaOptions())
        for shape in grid.shapes:
            attention = shape.rows * heads * shape.length**2 * size
            activations = shape.rows * shape.length * features * size
            assert IN_FLIGHT * (4 * attention + 16 * activations) <= GPU_MEM_LIMIT, shape
        most = grid.max_rows(512)
        assert most is not None
        assert most >= 2, "a batch is still a batch"


def test_float16_has_calls_of_twice_as_many_rows(sized: Callable[[int, int, Precision], Bundle]) -> None:
    whole, half = (grid_of(sized(768, 512, each), CudaOptions()) for each in ("float32", "float16"))
    most = whole.max_rows(512), half.max_rows(512)
    assert most[0] is not None
    assert most[1] is not None
    assert 2 * most[0] <= most[1] <= 2 * most[0] + 1


def test_a_text_of_thousands_of_tokens_runs_alone(sized: Callable[[int, int, Precision], Bundle]) -> None:
    bundle = sized(768, 8192, "float32")
    assert grid_of(bundle, CudaOptions()).max_rows(8192) == 1
    assert "--max-length" in or_max_length(bundle)


def test_a_cnn_is_bounded_by_tokens_alone(bundle: Bundle) -> None:
    assert grid_of(bundle, CudaOptions(GRID)) == GRID
    assert or_max_length(bundle) == ""


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_on_a_gpu_the_answers_are_those_of_the_cpu(
    precision: Precision, saved: Saved, tmp_path: Path
) -> None:
    if not (torch.cuda.is_available() and has_cuda()):
        pytest.skip("torch sees no CUDA device, or this ONNX Runtime has no CUDA provider")
    texts = random_texts(200)
    options = TransformerOptions(precision=precision, calibration=labelled(texts[:9], [*LABELS] * 3))
    bundle = export_transformer(saved("bert"), tmp_path / "bert", options, torchscript=False)
    cuda, cpu = (open_engine(bundle, engine="onnx", device=device) for device in ("cuda", "cpu"))
    rows = Windows.of(Tokenizer.of(bundle).encode_all(texts), bundle.encoders).rows
    for count in (1, 3, 200):
        call = pad(rows[:count], 64)
        assert np.abs(cuda.run(*call) - cpu.run(*call)).max() <= bundle.tolerance
