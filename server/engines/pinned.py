"""Memory of the host that the system may not move, so that a GPU copies it by itself, at the full speed of the bus."""

import ctypes
import logging
import weakref

import numpy as np
import onnxruntime

from server.arrays import Ids

log = logging.getLogger(__name__)


def pinned(count: int, *, on_cuda: bool) -> Ids:
    """int32[count], zeros; pinned for CUDA, plain memory where no GPU reads it or CUDA refuses."""
    array: Ids = np.zeros(count, dtype=np.int32)
    if on_cuda:
        runtime = _cuda_runtime()
        address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        status = runtime.cudaHostRegister(address, size, 0)
        if status == 0:
            weakref.finalize(array, runtime.cudaHostUnregister, address)
        else:
            log.warning("CUDA pins no memory (error %d of cudaHostRegister): copies to the GPU are slower", status)
    return array


def _cuda_runtime() -> ctypes.CDLL:
    """The CUDA runtime that ONNX Runtime has loaded."""
    return ctypes.CDLL(f"libcudart.so.{onnxruntime.cuda_version.partition('.')[0]}")
