"""Host buffers that ONNX Runtime copies model inputs from: plain for the CPU, pinned for a GPU."""

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
        """int32[count] in memory that the device copies from."""

    def select_device(self) -> None:
        """Select the device for later copies of the calling thread."""


class PlainHostBuffers:
    """Ordinary memory, for the CPU."""

    def zeros(self, count: int) -> Ids:
        return np.zeros(count, dtype=np.int32)

    def select_device(self) -> None:
        """There is one CPU."""


class PinnedHostBuffers:
    """Pinned memory for the GPU with this number: the system cannot move it, so the GPU copies it by DMA at
    full bus speed.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        # the CUDA runtime that ONNX Runtime has loaded
        self._runtime = ctypes.CDLL(f"libcudart.so.{onnxruntime.cuda_version.partition('.')[0]}")

    def zeros(self, count: int) -> Ids:
        """Falls back to ordinary memory, with a warning in the log, if CUDA cannot pin it."""
        # own pages: CUDA pins whole pages, and refuses one that is already pinned
        array: Ids = np.frombuffer(mmap.mmap(-1, count * 4), dtype=np.int32)
        address = ctypes.c_void_p(array.ctypes.data)
        status = self._runtime.cudaHostRegister(address, ctypes.c_size_t(array.nbytes), 0)
        if status == 0:
            weakref.finalize(array, self._runtime.cudaHostUnregister, address)
        else:
            # clear the error, or ONNX Runtime takes it for one of the next operator
            self._runtime.cudaGetLastError()
            log.warning(
                "CUDA pins no memory (error %d of cudaHostRegister): copies to the GPU are slower", status
            )
        return array

    def select_device(self) -> None:
        """Otherwise a thread creates a context on the first GPU, whichever GPU it is meant to use."""
        self._runtime.cudaSetDevice(self._number)
