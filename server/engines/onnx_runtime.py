"""The folded network in ONNX Runtime: a session on the CPU or on CUDA, and the engine on the CPU."""

import re
from typing import Any

import numpy as np
import onnxruntime

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import MAX_PIECE, NoCuda, in_pieces
from server.engines.onnx_file import read_model
from server.errors import BadBundle

OUT_OF_MEMORY = re.compile(
    r"bad allocation|bad_alloc|[Ff]ailed to allocate|smaller than requested bytes|out of "
    r"memory|ALLOC(ATION)?_FAILED|resource allocation failed"
)
"""In the words of ONNX Runtime, its arena, CUDA, cuBLAS and cuDNN."""

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Provider = tuple[str, dict[str, str]]
"""Its name and its options."""


def has_cuda() -> bool:
    """Whether this ONNX Runtime knows CUDA; whether CUDA works only a session tells."""
    return CUDA in onnxruntime.get_available_providers()


class OnnxEngine:
    """One session, safe to call from several threads; each call computes in its caller's thread."""

    name = "onnx"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, bundle: Bundle) -> None:
        self._network = Network(open_session(bundle, (CPU, {})), widest=max(bundle.widths))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        return self._network.run(ids, lengths)

    def close(self) -> None:
        """ONNX Runtime frees a session with its last reference; there is nothing to end."""


class Network:
    """A session's answers at any shape, those of long rows piece by piece."""

    def __init__(self, session: onnxruntime.InferenceSession, *, widest: int) -> None:
        self._session = session
        self._widest = widest
        features = next(i for i in session.get_inputs() if i.name == "carry").shape[1]
        self.start: Floats = np.zeros((1, features), dtype=np.float32)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if ids.shape[1] > MAX_PIECE:
            return in_pieces(self._step, self.start, ids, lengths, widest=self._widest)
        probabilities: Floats = self._run(["probabilities"], ids, lengths, self.start)[0]
        return probabilities

    def _step(self, ids: Ids, lengths: Ids, carry: Floats) -> tuple[Floats, Floats]:
        probabilities, features = self._run(["probabilities", "features"], ids, lengths, carry)
        return probabilities, features

    def _run(self, wanted: list[str], ids: Ids, lengths: Ids, carry: Floats) -> list[Floats]:
        try:
            answers: list[Floats] = self._session.run(
                wanted, {"ids": ids, "lengths": lengths, "carry": carry}
            )
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise memory_error(error, *ids.shape) or error from None
        return answers


def open_session(bundle: Bundle, provider: Provider) -> onnxruntime.InferenceSession:
    """Raises NoCuda where CUDA is the provider and does not start, BadBundle for a file ONNX Runtime cannot
    load, MemoryError.
    """
    options = onnxruntime.SessionOptions()
    # single-threaded calls from several threads beat one call spread over several
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # else tables of more than 1 GiB would be made anew in every call
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", "0")
    options.log_severity_level = 4  # what is wrong is said by the exception, or by the providers below
    read_model(bundle)
    providers: list[Any] = [provider] if provider[0] == CPU else [provider, (CPU, {})]
    try:
        # neither now nor at a later call may it go over to the CPU by itself
        session = onnxruntime.InferenceSession(
            bundle.file("model.onnx"), options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        if lack := memory_error(error):
            raise lack from None
        if provider[0] == CUDA and "CUDA" in str(error):
            raise NoCuda(
                f"ONNX Runtime cannot start CUDA ({in_cudas_words(error)}): check the NVIDIA driver "
                "(580 or newer) and the GPU's number"
            ) from error
        raise BadBundle(
            f"{bundle.path}/model.onnx: ONNX Runtime cannot load it ({type(error).__name__}); export it "
            "again."
        ) from error
    # the available providers still name CUDA after a silent fallback; only the session tells the truth
    if session.get_providers()[0] != provider[0]:
        raise NoCuda(
            "ONNX Runtime fell back to the CPU: check the NVIDIA driver, and that CUDA 13 and cuDNN 9 "
            "are installed (prelabel[gpu])"
        )
    return session


def memory_error(error: Exception, rows: int = 0, length: int = 0) -> MemoryError | None:
    """The same as the error that callers know, where it is about memory: that of a call, or of none."""
    if not OUT_OF_MEMORY.search(str(error)):
        return None
    return MemoryError(
        f"ONNX Runtime has no memory for {f'{rows} rows of {length} tokens' if rows else 'the tables'}"
    )


def in_cudas_words(error: Exception) -> str:
    """What CUDA says, without the places in the source of who asked it."""
    found = re.search(r"CUDA failure \d+: [^;]*|CUDA error[^;]*|Invalid device ID[^.\n]*", str(error))
    return found[0].strip() if found else type(error).__name__
