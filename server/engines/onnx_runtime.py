"""ONNX Runtime: opens sessions on the CPU or CUDA, and the ONNX engine for the CPU."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.base import Encoder
from server.engines.base import MAX_CHUNK, CudaUnavailable, run_in_chunks
from server.engines.onnx_file import read_model
from server.errors import BadBundle

OUT_OF_MEMORY = re.compile(
    r"bad allocation|bad_alloc|[Ff]ailed to allocate|smaller than requested bytes|out of "
    r"memory|ALLOC(ATION)?_FAILED|resource allocation failed"
)
"""Messages of ONNX Runtime, its arena, CUDA, cuBLAS and cuDNN."""

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

SPIN = 20
"""Microseconds that a thread of a session waits for work before it sleeps: enough for the next operator of a
call. By default it would take a core from other calls, and from the event loop, for a millisecond and more.
"""

NOT_SHARED: Mapping[str, onnxruntime.OrtValue] = {}

Provider = tuple[str, dict[str, str]]
"""The name of an execution provider, and its options."""


def has_cuda() -> bool:
    """Whether this build of ONNX Runtime has the CUDA provider. Only a session shows whether CUDA works."""
    return CUDA in onnxruntime.get_available_providers()


class OnnxEngine:
    """One session, safe to call from several threads; each call computes in its caller's thread."""

    name = "onnx"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, bundle: Bundle) -> None:
        """Raises BadBundle, MemoryError."""
        self._session = DynamicSession(open_session(bundle, (CPU, {})), bundle.encoders)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        return self._session.run(ids, lengths)

    def close(self) -> None:
        """Nothing to do: ONNX Runtime frees a session with its last reference."""


class DynamicSession:
    """A session called with any shape; long rows run in chunks."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        encoders: Sequence[Encoder],
        shared: Mapping[str, onnxruntime.OrtValue] = NOT_SHARED,
    ) -> None:
        """`shared` are the tensors that the session was opened with: it does not keep them in memory."""
        self._session = session
        self._shared = shared
        self._encoders = encoders
        features = next(i for i in session.get_inputs() if i.name == "carry").shape[1]
        self.start: Floats = np.zeros((1, features), dtype=np.float32)

    def run(self, ids: Ids, lengths: Ids, *, keep_memory: bool = True) -> Floats:
        """ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes]. Without
        `keep_memory`, the memory of a call in one chunk is returned to the system. Raises MemoryError.
        """
        if ids.shape[1] > MAX_CHUNK:
            return run_in_chunks(self._step, self.start, ids, lengths, self._encoders)
        options = None if keep_memory else _returning_memory()
        probabilities: Floats = self._run(["probabilities"], ids, lengths, self.start, options)[0]
        return probabilities

    def _step(self, ids: Ids, lengths: Ids, carry: Floats) -> tuple[Floats, Floats]:
        probabilities, features = self._run(["probabilities", "features"], ids, lengths, carry)
        return probabilities, features

    def _run(
        self,
        names: list[str],
        ids: Ids,
        lengths: Ids,
        carry: Floats,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[Floats]:
        inputs = {"ids": ids, "lengths": lengths, "carry": carry}
        try:
            outputs: list[Floats] = self._session.run(names, inputs, options)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise as_memory_error(error, *ids.shape) or error from None
        return outputs


def _returning_memory() -> onnxruntime.RunOptions:
    """Of a call on the CPU, whose arena would keep the memory for the next one."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def open_session(
    bundle: Bundle,
    provider: Provider,
    *,
    threads: int = 1,
    shared: Mapping[str, onnxruntime.OrtValue] = NOT_SHARED,
) -> onnxruntime.InferenceSession:
    """A call computes in its caller's thread and in `threads` - 1 others. `shared` are tensors of model.onnx
    by name, which other sessions have, too; they must live as long as the session.

    Raises CudaUnavailable if CUDA is the provider and does not start, BadBundle for a file that ONNX Runtime
    cannot load, MemoryError.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    for name, value in shared.items():
        options.add_initializer(name, value)
    # otherwise every call would compute tables of more than 1 GiB again
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", "0")
    options.log_severity_level = 4  # exceptions and the check of providers below report what is wrong
    read_model(bundle)
    providers: list[Any] = [provider] if provider[0] == CPU else [provider, (CPU, {})]
    try:
        # no fallback to the CPU, neither now nor at a later call
        session = onnxruntime.InferenceSession(
            bundle.file("model.onnx"), options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        if out_of_memory := as_memory_error(error):
            raise out_of_memory from None
        if provider[0] == CUDA and "CUDA" in str(error):
            raise CudaUnavailable(
                f"ONNX Runtime cannot start CUDA ({cuda_message(error)}): check the NVIDIA driver "
                "(580 or newer) and the GPU's number"
            ) from error
        raise BadBundle(
            f"{bundle.path}/model.onnx: ONNX Runtime cannot load it ({type(error).__name__}); export it "
            "again."
        ) from error
    # after a silent fallback only the session's own providers are right
    if session.get_providers()[0] != provider[0]:
        raise CudaUnavailable(
            "ONNX Runtime fell back to the CPU: check the NVIDIA driver, and that CUDA 13 and cuDNN 9 "
            "are installed (prelabel[gpu])"
        )
    return session


def as_memory_error(error: Exception, rows: int = 0, length: int = 0) -> MemoryError | None:
    """A MemoryError if `error` says that memory ran out, else None. Give the shape of the call; none while a
    session opens.
    """
    if not OUT_OF_MEMORY.search(str(error)):
        return None
    return MemoryError(
        f"ONNX Runtime has no memory for {f'{rows} rows of {length} tokens' if rows else 'the tables'}"
    )


def cuda_message(error: Exception) -> str:
    """CUDA's own message, without ONNX Runtime's source locations."""
    found = re.search(r"CUDA failure \d+: [^;]*|CUDA error[^;]*|Invalid device ID[^.\n]*", str(error))
    return found[0].strip() if found else type(error).__name__
