"""Runs torch calls on one device: a stream per thread on a GPU, a single thread on the CPU."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from server.engines.base import CudaUnavailable


class TorchDevice:
    """`name` is cpu, or a GPU such as cuda:0."""

    def __init__(self, name: str) -> None:
        """Raises CudaUnavailable."""
        self.name = name
        self._on_cuda = name != "cpu"
        if self._on_cuda and not torch.cuda.is_available():
            raise CudaUnavailable(
                "torch sees no CUDA device: check the NVIDIA driver, and that torch is not a build for "
                "the CPU"
            )
        if self._on_cuda and torch.device(name).index >= torch.cuda.device_count():
            raise CudaUnavailable(f"torch sees {torch.cuda.device_count()} CUDA devices, numbered from 0")
        self._local = threading.local()
        self._thread_pools = ThreadpoolController().select(user_api="openmp").lib_controllers

    @contextmanager
    def context(self) -> Iterator[None]:
        """For the calls of one thread. On a GPU they go to the thread's own stream, so that one thread copies
        while another computes; on the CPU they compute in this thread alone.
        """
        if not self._on_cuda:
            with self._single_threaded():
                yield
            return
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.name)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._local.stream):
            yield

    @contextmanager
    def _single_threaded(self) -> Iterator[None]:
        """Sets OpenMP's number of threads, which each calling thread has of its own; torch.set_num_threads
        would change the whole process.
        """
        torch.get_num_threads()  # otherwise torch sets its own number at this thread's first computation
        before = [pool.num_threads for pool in self._thread_pools]
        for pool in self._thread_pools:
            pool.set_num_threads(1)
        try:
            yield
        finally:
            for pool, number in zip(self._thread_pools, before, strict=True):
                pool.set_num_threads(number)

    def upload(self, array: Any) -> torch.Tensor:
        """A numpy array as a tensor on the device; a GPU copies it asynchronously from pinned memory."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.name, non_blocking=True) if self._on_cuda else tensor
