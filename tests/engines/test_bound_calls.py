"""Bound calls of fixed shapes, as the ONNX engine makes them on a GPU: the same code on the CPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.encoders.cnn.folded_weights import read_folded_weights
from server.engines.base import Engine, pad
from server.engines.devices import Grid
from server.engines.factory import open_engine
from server.engines.multi_gpu import MultiGpuEngine
from server.engines.onnx_cuda import BoundCalls, cuda_provider, table_bytes
from server.engines.onnx_file import read_tensors
from server.engines.onnx_runtime import CPU, as_memory_error, open_session
from server.engines.pinned_memory import PlainHostBuffers
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts

GRID = Grid((8, 32, 64, 512), 1024)


@pytest.fixture(scope="module")
def bound(bundle: Bundle) -> BoundCalls:
    return BoundCalls(bundle, open_session(bundle, (CPU, {})), "cpu", GRID, PlainHostBuffers())


@pytest.fixture(scope="module")
def onnx(bundle: Bundle) -> Engine:
    return open_engine(bundle, engine="onnx", device="cpu")


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> list[Ids]:
    return [row[:500] for row in map(Tokenizer.of(bundle).encode, random_texts(200))]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 200])
def test_any_number_of_rows_and_any_length_gives_the_result_of_an_unbound_call(
    bound: BoundCalls, onnx: Engine, rows: list[Ids], count: int
) -> None:
    """200 rows exceed the grid's budget at every length; 700 tokens exceed its longest length."""
    for length in (500, 512, 700):
        call = pad(rows[:count], length)
        assert np.abs(bound.run(*call) - onnx.run(*call)).max() <= 1e-6


def test_each_row_at_its_own_length(bound: BoundCalls, onnx: Engine, rows: list[Ids]) -> None:
    for row in rows[:50]:
        call = pad([row], len(row))
        assert np.abs(bound.run(*call) - onnx.run(*call)).max() <= 1e-6


def test_a_result_does_not_depend_on_earlier_calls(bound: BoundCalls, rows: list[Ids]) -> None:
    short = pad([np.array([2, 3, 4, 5, 6], dtype=np.int32)], 5)
    before = bound.run(*short)
    bound.run(*pad(rows, 512))
    bound.run(*pad([np.full(8, 14, dtype=np.int32)] * 100, 8))
    assert np.array_equal(bound.run(*short), before)


def test_concurrent_calls_do_not_mix(bound: BoundCalls, rows: list[Ids]) -> None:
    calls = [pad(rows[begin : begin + 5], 512) for begin in range(0, 200, 5)]
    expected = [bound.run(*call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda call: bound.run(*call), 5 * calls))
    assert all(np.array_equal(result, expected[i % len(calls)]) for i, result in enumerate(results))


def test_a_failed_call_returns_its_slot(bound: BoundCalls, rows: list[Ids]) -> None:
    call = pad(rows[:2], 512)
    expected = bound.run(*call)
    unknown = np.full((1, 8), 10**6, dtype=np.int32)
    for _ in range(10):  # more often than there are slots
        with pytest.raises(Exception, match="indices element out of data bounds"):
            bound.run(unknown, np.array([8], dtype=np.int32))
    assert np.array_equal(bound.run(*call), expected)


def test_out_of_memory_is_recognized_and_other_errors_are_not() -> None:
    for message in (
        "bfc_arena.cc:348 Failed to allocate memory for requested buffer of size 1073741824",
        "bfc_arena.cc:155 Available memory of 1048576 is smaller than requested bytes of 7340032",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: the resource allocation failed",
        "CUDNN failure 2003: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert (
            str(as_memory_error(RuntimeError(message), 2, 3))
            == "ONNX Runtime has no memory for 2 rows of 3 tokens"
        )
    assert (
        as_memory_error(RuntimeError("CUDA failure 700: an illegal memory access was encountered"), 2, 3)
        is None
    )


def test_the_computed_size_of_the_tables_is_right(bundle: Bundle) -> None:
    cnn = cnn_of(bundle.encoders)
    folded = read_folded_weights(read_tensors(bundle), cnn.spec.widths, len(cnn.vocabulary))
    assert table_bytes(bundle) == folded.tables.nbytes


def test_a_slot_that_fails_to_warm_up_raises_and_does_not_hang_the_others(bundle: Bundle) -> None:
    class Broken(PlainHostBuffers):
        def __init__(self) -> None:
            self.left = 4

        def select_device(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise MemoryError("the second slot's first call")

    with pytest.raises(MemoryError):
        BoundCalls(bundle, open_session(bundle, (CPU, {})), "cpu", GRID, Broken())


def test_tables_of_more_than_a_gigabyte_are_computed_once(bundle: Bundle) -> None:
    """By default ONNX Runtime computes constants of that size again in every call."""
    options = open_session(bundle, (CPU, {})).get_session_options()
    assert options.get_session_config_entry("optimization.constant_folding_max_output_size_in_bytes") == "0"


def test_the_provider_is_bounded_and_exact() -> None:
    name, options = cuda_provider("cuda:3", 2**30)
    assert name == "CUDAExecutionProvider"
    assert options == {
        "device_id": "3",
        "gpu_mem_limit": str(2**30),
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }


class Counting:
    """An engine that counts its calls."""

    name = "onnx"
    degraded: str | None = None

    def __init__(self, device: str, engine: Engine) -> None:
        self.device, self._engine = device, engine
        self.calls = 0
        self.closed = False

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        self.calls += 1
        return self._engine.run(ids, lengths)

    def close(self) -> None:
        self.closed = True


def test_several_gpus_share_the_calls_and_answer_alike(onnx: Engine, rows: list[Ids]) -> None:
    parts = [Counting(f"cuda:{number}", onnx) for number in range(3)]
    spread: Engine = MultiGpuEngine(parts)
    assert spread.device == "cuda:0,cuda:1,cuda:2"
    call = pad(rows[:4], 512)
    assert all(np.array_equal(spread.run(*call), onnx.run(*call)) for _ in range(30))
    assert [part.calls for part in parts] == [10, 10, 10]
    spread.close()
    assert all(part.closed for part in parts)


def test_a_turn_comes_back_after_a_failure(onnx: Engine) -> None:
    class Failing(Counting):
        def run(self, ids: Ids, lengths: Ids) -> Floats:
            raise MemoryError

    spread = MultiGpuEngine([Failing("cuda:0", onnx)])
    for _ in range(20):
        with pytest.raises(MemoryError):
            spread.run(*pad([np.zeros(5, dtype=np.int32)], 5))
