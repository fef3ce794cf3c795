"""The folded network in ONNX Runtime: CUDA where it works, the CPU otherwise."""

import logging
import re

import numpy as np
import onnxruntime

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines import MAX_PIECE, in_pieces
from server.engines.model_file import read_model
from server.errors import BadBundle, BadSetting

log = logging.getLogger(__name__)

OUT_OF_MEMORY = re.compile(r"bad allocation|bad_alloc|[Ff]ailed to allocate|out of memory")
"""In the words of ONNX Runtime, its arena and CUDA."""

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def has_cuda() -> bool:
    """Whether this ONNX Runtime knows CUDA; whether CUDA works only a session tells."""
    return CUDA in onnxruntime.get_available_providers()


class OnnxEngine:
    """One session, safe to call from several threads; on the CPU each call computes in its caller's thread."""

    name = "onnx"

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._widest = max(bundle.widths)
        self._session = _open_session(bundle, device)
        self.device = "cuda" if self._session.get_providers()[0] == CUDA else "cpu"
        features = next(i for i in self._session.get_inputs() if i.name == "carry").shape[1]
        self._start = np.zeros((1, features), dtype=np.float32)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if ids.shape[1] > MAX_PIECE:
            return in_pieces(self._step, self._start, ids, lengths, widest=self._widest)
        probabilities: Floats = self._run(["probabilities"], ids, lengths, self._start)[0]
        return probabilities

    def close(self) -> None:
        """ONNX Runtime frees a session with its last reference; there is nothing to end."""

    def _step(self, ids: Ids, lengths: Ids, carry: Floats) -> tuple[Floats, Floats]:
        probabilities, features = self._run(["probabilities", "features"], ids, lengths, carry)
        return probabilities, features

    def _run(self, wanted: list[str], ids: Ids, lengths: Ids, carry: Floats) -> list[Floats]:
        try:
            answers: list[Floats] = self._session.run(wanted, {"ids": ids, "lengths": lengths, "carry": carry})
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(f"ONNX Runtime has no memory for {ids.shape[0]} rows of {ids.shape[1]} tokens") from None
            raise
        return answers


def _open_session(bundle: Bundle, device: str) -> onnxruntime.InferenceSession:
    """Raises BadSetting for device=cuda without a working CUDA provider, BadBundle for a file ONNX Runtime cannot load."""
    if device == "cuda" and not has_cuda():
        raise BadSetting("device=cuda, but this ONNX Runtime has no CUDA provider: install prelabel[gpu] (onnxruntime-gpu), or set device=cpu.")
    wants_cuda = device != "cpu" and has_cuda()
    if wants_cuda:
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    # single-threaded calls from several threads beat one call spread over several
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers: list[str | tuple[str, dict[str, str]]] = [CPU]
    if wants_cuda:
        # TF32 would cost more than the 1e-5 that engines may differ by
        providers.insert(0, (CUDA, {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}))
    read_model(bundle)
    try:
        session = onnxruntime.InferenceSession(bundle.file("model.onnx"), options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        raise BadBundle(f"{bundle.path}/model.onnx: ONNX Runtime cannot load it ({type(error).__name__}); export it again.") from error
    # the available providers still name CUDA after a silent fallback; only the session tells the truth
    if session.get_providers()[0] != CUDA and device != "cpu":
        if device == "cuda":
            raise BadSetting("device=cuda, but ONNX Runtime fell back to the CPU: check the NVIDIA driver, CUDA and cuDNN, or set device=cpu.")
        why = "CUDA did not start: check the driver, CUDA and cuDNN" if wants_cuda else "this ONNX Runtime has no CUDA provider"
        log.log(logging.WARNING if wants_cuda else logging.INFO, "running on the CPU: %s", why)
    return session
