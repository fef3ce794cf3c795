"""The device that a torch engine runs on: what goes there, and in which order."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from server.engines.base import NoCuda


class TorchDevice:
    """`name` is cpu, or such as cuda:0."""

    def __init__(self, name: str) -> None:
        """Raises NoCuda."""
        self.name = name
        self._on_cuda = name != "cpu"
        if self._on_cuda and not torch.cuda.is_available():
            raise NoCuda(
                "torch sees no CUDA device: check the NVIDIA driver, and that torch is not a build for "
                "the CPU"
            )
        if self._on_cuda and torch.device(name).index >= torch.cuda.device_count():
            raise NoCuda(f"torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
        self._own = threading.local()
        self._thread_pools = ThreadpoolController().select(user_api="openmp").lib_controllers

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """Work of this thread follows on itself, but not on that of other threads: one copies while another
        computes. On the CPU it stays in this thread.
        """
        if not self._on_cuda:
            with self._without_other_threads():
                yield
            return
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self.name)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._own.stream):
            yield

    @contextmanager
    def _without_other_threads(self) -> Iterator[None]:
        """OpenMP keeps a number of threads for each calling thread; torch.set_num_threads would change it for the
        whole process.
        """
        torch.get_num_threads()  # else torch would set its own number when this thread first computes
        before = [pool.num_threads for pool in self._thread_pools]
        for pool in self._thread_pools:
            pool.set_num_threads(1)
        try:
            yield
        finally:
            for pool, number in zip(self._thread_pools, before, strict=True):
                pool.set_num_threads(number)

    def put(self, array: Any) -> torch.Tensor:
        """A numpy array as a tensor there, through pinned memory, which the GPU copies by itself."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.name, non_blocking=True) if self._on_cuda else tensor

    def keep(self, array: Any) -> torch.Tensor:
        """The same to stay: it is there when this returns, for every thread."""
        return torch.from_numpy(array).to(self.name)
