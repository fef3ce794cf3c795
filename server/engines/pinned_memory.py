"""The host's side of a device that ONNX Runtime computes on: memory that its inputs are copied from."""

import ctypes
import logging
import mmap
import weakref
from typing import Protocol

import numpy as np
import onnxruntime

from server.arrays import Ids

log = logging.getLogger(__name__)


class HostBuffers(Protocol):
    def zeros(self, count: int) -> Ids:
        """int32[count] that the device's copies are fast from."""

    def select(self) -> None:
        """Copies of this thread go to the device from now on."""


class PlainHostBuffers:
    """For the CPU: any memory will do."""

    def zeros(self, count: int) -> Ids:
        return np.zeros(count, dtype=np.int32)

    def select(self) -> None:
        """There is one CPU."""


class PinnedHostBuffers:
    """For a GPU by its number: pinned memory, which the system may not move, so that the GPU copies it by
    itself at the full speed of the bus.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        # the CUDA runtime that ONNX Runtime has loaded
        self._runtime = ctypes.CDLL(f"libcudart.so.{onnxruntime.cuda_version.partition('.')[0]}")

    def zeros(self, count: int) -> Ids:
        """Plain memory where CUDA refuses to pin it."""
        # pages of its own: CUDA pins whole pages, and refuses one that is pinned already
        array: Ids = np.frombuffer(mmap.mmap(-1, count * 4), dtype=np.int32)
        address = ctypes.c_void_p(array.ctypes.data)
        status = self._runtime.cudaHostRegister(address, ctypes.c_size_t(array.nbytes), 0)
        if status == 0:
            weakref.finalize(array, self._runtime.cudaHostUnregister, address)
        else:
            # else ONNX Runtime takes it for an error of the operator that it runs next
            self._runtime.cudaGetLastError()
            log.warning(
                "CUDA pins no memory (error %d of cudaHostRegister): copies to the GPU are slower", status
            )
        return array

    def select(self) -> None:
        """A thread that has selected none makes itself a context on the first GPU, whichever it is meant to
        use.
        """
        self._runtime.cudaSetDevice(self._number)
