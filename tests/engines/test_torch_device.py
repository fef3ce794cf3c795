"""On the CPU torch computes in the calling thread, and the process keeps its number of threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from server.bundle import Bundle
from server.engines.factory import open_engine
from server.engines.torch_device import TorchDevice

THREADS = 3


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def test_calls_on_the_cpu_use_one_thread_from_any_thread() -> None:
    device = TorchDevice("cpu")

    def during_and_after() -> tuple[int, int]:
        with device.context():
            during = torch.get_num_threads()
        return during, torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(during_and_after).result() == (1, THREADS)
        assert during_and_after() == (1, THREADS)
        with device.context():
            assert pool.submit(torch.get_num_threads).result() == THREADS


def test_an_engine_changes_no_threads_of_the_process(bundle: Bundle) -> None:
    engine = open_engine(bundle, engine="torchscript", device="cpu")
    assert torch.get_num_threads() == THREADS
    engine.run(np.zeros((1, 5), dtype=np.int32), np.full(1, 5, dtype=np.int32))
    engine.close()
    assert torch.get_num_threads() == THREADS
