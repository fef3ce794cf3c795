"""The folded network in ONNX Runtime on a GPU.

The graph has no convolution, so no plan is made anew at a new shape; still every call has one of a few fixed
shapes, for which all memory is there and bound before the first request:

    ids ─▶ pinned memory ─▶ bound memory of the GPU ─▶ graph, tables on the GPU ─▶ probabilities, bound ─▶ host

A slot holds what one call needs. There are several, so that one call's copies go on while another computes; a
session gives each call under way a stream of its own.
"""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Barrier

import numpy as np
import onnxruntime

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import NoCuda
from server.engines.devices import IN_FLIGHT, CudaOptions, Grid, Shape, number_of
from server.engines.onnx_runtime import (
    CUDA,
    Network,
    Provider,
    has_cuda,
    in_cudas_words,
    memory_error,
    open_session,
)
from server.engines.pinned_memory import HostBuffers, PinnedHostBuffers
from server.errors import PrelabelError


class OnnxCudaEngine:
    """One session on one GPU, safe to call from several threads; a call beyond IN_FLIGHT waits for one to
    end.
    """

    name = "onnx"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str, options: CudaOptions) -> None:
        """Raises NoCuda, BadBundle; NoCuda also where `options.mem_limit` does not suffice for the tables and
        calls of every shape.
        """
        if not has_cuda():
            raise NoCuda(
                "this ONNX Runtime has no CUDA provider: install prelabel[gpu] (onnxruntime-gpu) in "
                "place of prelabel[cpu]"
            )
        onnxruntime.preload_dlls()
        self.device = device
        try:
            if table_bytes(bundle) > options.mem_limit:
                # ONNX Runtime's arena puts them there all the same, and forgets its limit
                raise MemoryError(f"the tables take {table_bytes(bundle):,} bytes")
            session = open_session(bundle, cuda_provider(device, options.mem_limit))
            self._calls = BoundCalls(
                bundle, session, device, options.grid, PinnedHostBuffers(number_of(device))
            )
        except MemoryError as error:
            raise NoCuda(
                f"the GPU's memory does not suffice ({error}): raise PRELABEL_GPU_MEM_LIMIT, lower "
                "PRELABEL_BATCH_TOKENS"
            ) from error
        except (NoCuda, PrelabelError):
            raise
        except Exception as error:  # ONNX Runtime's, at the first call of all: only then does it load cuDNN
            raise NoCuda(
                f"ONNX Runtime's first call on it failed ({in_cudas_words(error)}): check that cuDNN 9 "
                "is installed (prelabel[gpu])"
            ) from error

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        return self._calls.run(ids, lengths)

    def close(self) -> None:
        """ONNX Runtime frees a session with its last reference; there is nothing to end."""


def cuda_provider(device: str, mem_limit: int) -> Provider:
    return CUDA, {
        "device_id": str(number_of(device)),
        "gpu_mem_limit": str(mem_limit),
        # the arena grows by what is asked for, not to the next power of two
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 would cost more than the 1e-5 that engines may differ by
        "use_tf32": "0",
    }


def table_bytes(bundle: Bundle) -> int:
    """Of the tables in float32: words × Σ widths × filters."""
    return len(bundle.vocabulary) * sum(bundle.widths) * (bundle.features // len(bundle.widths)) * 4


class BoundCalls:
    """Calls of fixed shapes on a session's device (`cpu`, or such as `cuda:0`), each of which has been made
    before.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: onnxruntime.InferenceSession,
        device: str,
        grid: Grid,
        host: HostBuffers,
    ) -> None:
        """Raises MemoryError."""
        self._grid = grid
        self._network = Network(session, widest=max(bundle.widths))
        self._slots: SimpleQueue[Slot] = SimpleQueue()
        slots = [
            Slot(
                session,
                device,
                grid,
                host,
                self._network.start,
                len(bundle.labels),
                bundle.manifest.min_length,
            )
            for _ in range(IN_FLIGHT)
        ]
        # all at the same time: each call under way has a stream and memory of its own, and they are made when
        # it is first needed
        together = Barrier(IN_FLIGHT)
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(lambda slot: slot.warm_up(together), slots))
        for slot in slots:
            self._slots.put(slot)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        rows, length = ids.shape
        most = self._grid.most_rows(length)
        if most is None:
            return self._network.run(ids, lengths)
        parts = [
            self._fixed(ids[begin : begin + most], lengths[begin : begin + most])
            for begin in range(0, rows, most)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _fixed(self, ids: Ids, lengths: Ids) -> Floats:
        slot = self._slots.get()
        try:
            return slot.run(self._grid.fit(*ids.shape), ids, lengths)
        finally:
            self._slots.put(slot)


class Slot:
    """What one call at a time needs at every shape of the grid: memory on both sides, bound to the session's
    inputs and outputs.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str,
        grid: Grid,
        host: HostBuffers,
        start: Floats,
        classes: int,
        min_length: int,
    ) -> None:
        """`start` is the carry of a text's first piece, float32[1, features]; rows that only fill a shape
        have `min_length` tokens.
        """
        self._session = session
        self._min_length = min_length
        kind, _, number = device.partition(":")
        self._place = {"device_type": kind, "device_id": int(number or 0)}
        self._host = host
        host.select()
        self._ids = host.zeros(max(shape.rows * shape.length for shape in grid.shapes))
        self._lengths = host.zeros(max(shape.rows for shape in grid.shapes))
        carry = onnxruntime.OrtValue.ortvalue_from_numpy(start, **self._place)
        self._bound = {shape: self._bind(shape, carry, classes) for shape in grid.shapes}

    def warm_up(self, together: Barrier) -> None:
        """Run every shape twice, the largest first, beginning when the other slots do; at the second time
        ONNX Runtime knows the memory it takes and asks for it in one piece. Raises MemoryError.
        """
        together.wait()
        for shape in sorted(self._bound, key=lambda shape: shape.rows * shape.length, reverse=True):
            for _ in range(2):
                self.run(shape, np.zeros((0, self._min_length), dtype=np.int32), np.zeros(0, dtype=np.int32))

    def run(self, shape: Shape, ids: Ids, lengths: Ids) -> Floats:
        """ids int32[rows, length] and lengths int32[rows] within `shape` → probabilities float32[rows,
        classes]. Raises MemoryError.
        """
        rows, length = ids.shape
        host_ids = self._ids[: shape.rows * shape.length].reshape(shape.rows, shape.length)
        host_lengths = self._lengths[: shape.rows]
        host_ids[:rows, :length] = ids
        # what stands behind a row's length is ignored, so it may be of an earlier call; a length is of this
        # one
        host_lengths[:rows] = lengths
        host_lengths[rows:] = self._min_length
        bound_ids, bound_lengths, answer, binding = self._bound[shape]
        self._host.select()
        try:
            bound_ids.update_inplace(host_ids)
            bound_lengths.update_inplace(host_lengths)
            self._session.run_with_iobinding(binding)
            probabilities: Floats = answer.numpy()[:rows].copy()
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise memory_error(error, shape.rows, shape.length) or error from None
        return probabilities

    def _bind(self, shape: Shape, carry: onnxruntime.OrtValue, classes: int) -> "Bound":
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        ids = value([shape.rows, shape.length], np.int32, **self._place)
        lengths = value([shape.rows], np.int32, **self._place)
        probabilities = value([shape.rows, classes], np.float32, **self._place)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("ids", ids)
        binding.bind_ortvalue_input("lengths", lengths)
        binding.bind_ortvalue_input("carry", carry)
        binding.bind_ortvalue_output("probabilities", probabilities)
        return ids, lengths, probabilities, binding


Bound = tuple[onnxruntime.OrtValue, onnxruntime.OrtValue, onnxruntime.OrtValue, onnxruntime.IOBinding]
"""A shape's ids, lengths and probabilities on the device, and what binds them to the session."""
