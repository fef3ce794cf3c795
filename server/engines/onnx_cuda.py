"""The ONNX engine on a GPU: fixed batch shapes, with all buffers bound before the first request.

    ids ─▶ pinned memory ─▶ bound GPU memory ─▶ graph, tables on the GPU ─▶ bound probabilities ─▶ host

The graph has no convolution, so cuDNN plans nothing at a new shape; fixed shapes also avoid allocations. A
slot holds the buffers of one call. There are several slots, so that one call copies while another computes;
ONNX Runtime gives each concurrent call its own stream.
"""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Barrier

import numpy as np
import onnxruntime

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.rows import max_length, sample_row
from server.engines.base import CudaUnavailable
from server.engines.devices import IN_FLIGHT, CudaOptions, Grid, Shape, device_number
from server.engines.onnx_runtime import (
    CUDA,
    DynamicSession,
    Provider,
    as_memory_error,
    cuda_message,
    has_cuda,
    open_session,
)
from server.engines.pinned_memory import HostBuffers, PinnedHostBuffers
from server.errors import PrelabelError


class OnnxCudaEngine:
    """One session on one GPU, safe to call from several threads; at most IN_FLIGHT calls run at a time."""

    name = "onnx"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str, options: CudaOptions) -> None:
        """Raises BadBundle, and CudaUnavailable, also if `options.mem_limit` is too small for the tables and
        the buffers of every shape.
        """
        if not has_cuda():
            raise CudaUnavailable(
                "this ONNX Runtime has no CUDA provider: install prelabel[gpu] (onnxruntime-gpu) in "
                "place of prelabel[cpu]"
            )
        onnxruntime.preload_dlls()
        self.device = device
        try:
            if table_bytes(bundle) > options.mem_limit:
                # ONNX Runtime's arena ignores its limit for them
                raise MemoryError(f"the tables take {table_bytes(bundle):,} bytes")
            session = open_session(bundle, cuda_provider(device, options.mem_limit))
            self._calls = BoundCalls(
                bundle,
                session,
                device,
                grid_of(bundle, options),
                PinnedHostBuffers(device_number(device)),
            )
        except MemoryError as error:
            raise CudaUnavailable(
                f"the GPU's memory does not suffice ({error}): raise PRELABEL_GPU_MEM_LIMIT, lower "
                f"PRELABEL_BATCH_TOKENS{or_max_length(bundle)}"
            ) from error
        except (CudaUnavailable, PrelabelError):
            raise
        except Exception as error:  # from ONNX Runtime's first call, which loads cuDNN
            raise CudaUnavailable(
                f"ONNX Runtime's first call on the GPU failed ({cuda_message(error)}): check that cuDNN 9 "
                "is installed (prelabel[gpu])"
            ) from error

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        return self._calls.run(ids, lengths)

    def close(self) -> None:
        """Nothing to do: ONNX Runtime frees a session with its last reference."""


def cuda_provider(device: str, mem_limit: int) -> Provider:
    return CUDA, {
        "device_id": str(device_number(device)),
        "gpu_mem_limit": str(mem_limit),
        # the arena grows by the size requested, not to the next power of two
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 would exceed the 1e-5 by which engines may differ
        "use_tf32": "0",
    }


def grid_of(bundle: Bundle, options: CudaOptions) -> Grid:
    """The shapes of the bundle's calls: as long as its network takes, and so few rows that the weights and
    IN_FLIGHT calls fit into memory.
    """
    weights = bundle.file("model.onnx").stat().st_size
    return options.grid.up_to(max_length(bundle.encoders)).within(
        lambda length: sum(encoder.row_bytes(length) for encoder in bundle.encoders),
        (options.mem_limit - weights) // IN_FLIGHT,
    )


def or_max_length(bundle: Bundle) -> str:
    """The end of the remedy where memory does not suffice."""
    return "" if bundle.has_tables else ", or export the transformer with a smaller --max-length"


def table_bytes(bundle: Bundle) -> int:
    """Bytes of the tables in float32."""
    return sum(encoder.table_bytes(len(bundle.labels)) for encoder in bundle.encoders)


class BoundCalls:
    """A session called with the grid's fixed shapes, each warmed up; longer rows run unbound.

    `device` is that of the session: cpu, or a GPU such as cuda:0.
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
        self._unbound = DynamicSession(session, bundle.encoders)
        self._slots: SimpleQueue[CallSlot] = SimpleQueue()
        slots = [
            CallSlot(
                session,
                device,
                grid,
                host,
                self._unbound.start,
                len(bundle.labels),
                sample_row(bundle.encoders),
            )
            for _ in range(IN_FLIGHT)
        ]
        # warm up all slots at the same time: ONNX Runtime creates the stream and memory of a concurrent call
        # when it is first needed
        barrier = Barrier(IN_FLIGHT)
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(lambda slot: slot.warm_up(barrier), slots))
        for slot in slots:
            self._slots.put(slot)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        rows, length = ids.shape
        most = self._grid.max_rows(length)
        if most is None:
            return self._unbound.run(ids, lengths)
        parts = [
            self._run_bound(ids[begin : begin + most], lengths[begin : begin + most])
            for begin in range(0, rows, most)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run_bound(self, ids: Ids, lengths: Ids) -> Floats:
        slot = self._slots.get()
        try:
            return slot.run(self._grid.fit(*ids.shape), ids, lengths)
        finally:
            self._slots.put(slot)


class CallSlot:
    """The buffers of one call, for every shape of the grid: memory on both sides, bound to the session's
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
        padding_row: Ids,
    ) -> None:
        """`start` float32[1, features] is the carry of a row's first chunk. Padding rows are `padding_row`.
        Raises MemoryError.
        """
        self._session = session
        self._padding_row = padding_row
        kind, _, number = device.partition(":")
        self._location = {"device_type": kind, "device_id": int(number or 0)}
        self._host = host
        host.select_device()
        self._ids = host.zeros(max(shape.rows * shape.length for shape in grid.shapes))
        self._lengths = host.zeros(max(shape.rows for shape in grid.shapes))
        carry = onnxruntime.OrtValue.ortvalue_from_numpy(start, **self._location)
        self._bound = {shape: self._bind(shape, carry, classes) for shape in grid.largest_first()}

    def warm_up(self, barrier: Barrier) -> None:
        """Run every shape twice, starting with the other slots; the one with most memory first, so that the
        others find theirs. In its second run ONNX Runtime knows the memory of a shape and allocates it as one
        block. Raises MemoryError.
        """
        none = np.zeros((0, len(self._padding_row)), dtype=np.int32)
        barrier.wait()
        for shape in self._bound:
            for _ in range(2):
                self.run(shape, none, none[:, 0])

    def run(self, shape: Shape, ids: Ids, lengths: Ids) -> Floats:
        """ids int32[rows, length] and lengths int32[rows] within `shape` → probabilities float32[rows,
        classes]. Raises MemoryError.
        """
        rows, length = ids.shape
        host_ids = self._ids[: shape.rows * shape.length].reshape(shape.rows, shape.length)
        host_lengths = self._lengths[: shape.rows]
        host_ids[:rows, :length] = ids
        # ids after a row's length are ignored, so those of an earlier call may stay; lengths are all set
        host_lengths[:rows] = lengths
        host_ids[rows:, : len(self._padding_row)] = self._padding_row
        host_lengths[rows:] = len(self._padding_row)
        bound_ids, bound_lengths, output, binding = self._bound[shape]
        self._host.select_device()
        try:
            bound_ids.update_inplace(host_ids)
            bound_lengths.update_inplace(host_lengths)
            self._session.run_with_iobinding(binding)
            probabilities: Floats = output.numpy()[:rows].copy()
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise as_memory_error(error, shape.rows, shape.length) or error from None
        return probabilities

    def _bind(self, shape: Shape, carry: onnxruntime.OrtValue, classes: int) -> "Bound":
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        ids = value([shape.rows, shape.length], np.int32, **self._location)
        lengths = value([shape.rows], np.int32, **self._location)
        probabilities = value([shape.rows, classes], np.float32, **self._location)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("ids", ids)
        binding.bind_ortvalue_input("lengths", lengths)
        binding.bind_ortvalue_input("carry", carry)
        binding.bind_ortvalue_output("probabilities", probabilities)
        return ids, lengths, probabilities, binding


Bound = tuple[onnxruntime.OrtValue, onnxruntime.OrtValue, onnxruntime.OrtValue, onnxruntime.IOBinding]
"""A shape's ids, lengths and probabilities on the device, and their binding to the session."""
