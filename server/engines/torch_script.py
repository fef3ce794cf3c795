"""The folded network as TorchScript. Needs torch, as little else of the server does."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import MAX_PIECE, in_pieces
from server.engines.torch_device import TorchDevice
from server.errors import BadBundle


class TorchScriptEngine:
    """One frozen module, safe to call from several threads; on the CPU each call computes in its caller's
    thread.
    """

    name = "torchscript"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str) -> None:
        """Raises NoCuda, BadBundle."""
        self._on = TorchDevice(device)
        self.device = device
        self._widest = max(bundle.widths)
        self._start = np.zeros((1, bundle.features), dtype=np.float32)
        self._module = _load(bundle.file("model.ts"), device)

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if ids.shape[1] > MAX_PIECE:
            return in_pieces(self._step, self._start, ids, lengths, widest=self._widest)
        return self._step(ids, lengths, self._start)[0]

    def close(self) -> None:
        """torch frees the module with its last reference; there is nothing to end."""

    def _step(self, ids: Ids, lengths: Ids, carry: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode(), self._on.in_order():
            try:
                probabilities, features = self._module(
                    *(self._on.put(array) for array in (ids, lengths, carry))
                )
                return probabilities.cpu().numpy(), features.cpu().numpy()
            except torch.OutOfMemoryError:
                raise MemoryError(
                    f"torch has no memory for {ids.shape[0]} rows of {ids.shape[1]} tokens"
                ) from None


def _load(path: Path, device: str) -> torch.jit.ScriptModule:
    """Freezing turns E and W into constants and folds the tables from them, once. Raises BadBundle."""
    try:
        with known_deprecations():
            # fused kernels are compiled anew for each shape, at its second call: a stall where requests wait
            torch.jit.set_fusion_strategy([])
            module = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
            frozen: torch.jit.ScriptModule = torch.jit.freeze(module.eval())
            return frozen
    except RuntimeError as error:
        raise BadBundle(f"{path}: torch cannot load it as TorchScript; export the bundle again.") from error


@contextmanager
def known_deprecations() -> Iterator[None]:
    """torch calls TorchScript deprecated. It is what users asked for, so exactly that is silenced, and only
    here.
    """
    with warnings.catch_warnings():
        message = r".*`torch\.jit\.\w+` is (deprecated|not supported)|.*legacy TorchScript-based ONNX|The feature will be removed"
        warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        yield
