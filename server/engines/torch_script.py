"""The TorchScript engine, on the CPU or a GPU. Needs torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.rows import sample_row
from server.engines.base import MAX_CHUNK, pad, run_in_chunks
from server.engines.torch_device import TorchDevice
from server.errors import BadBundle


class TorchScriptEngine:
    """One frozen module, safe to call from several threads; on the CPU a call computes in its caller's
    thread.
    """

    name = "torchscript"
    degraded: str | None = None

    def __init__(self, bundle: Bundle, device: str) -> None:
        """Raises CudaUnavailable, BadBundle."""
        self._device = TorchDevice(device)
        self.device = device
        self._encoders = bundle.encoders
        self._start = np.zeros((1, bundle.carry_size), dtype=np.float32)
        path, sample = bundle.file("model.ts"), sample_row(bundle.encoders)
        try:
            with without_fusion():
                self._module = _load(path, device)
                self.run(*pad([sample], len(sample)))
        except RuntimeError as error:
            raise BadBundle(
                f"{path}: torch cannot load it as TorchScript; export the bundle again."
            ) from error

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if ids.shape[1] > MAX_CHUNK:
            return run_in_chunks(self._step, self._start, ids, lengths, self._encoders)
        return self._step(ids, lengths, self._start)[0]

    def close(self) -> None:
        """Nothing to do: torch frees the module with its last reference."""

    def _step(self, ids: Ids, lengths: Ids, carry: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode(), self._device.context():
            try:
                probabilities, features = self._module(*map(self._device.upload, (ids, lengths, carry)))
                return probabilities.cpu().numpy(), features.cpu().numpy()
            except torch.OutOfMemoryError:
                raise MemoryError(
                    f"torch has no memory for {ids.shape[0]} rows of {ids.shape[1]} tokens"
                ) from None


def _load(path: Path, device: str) -> torch.jit.ScriptModule:
    """A frozen module: freezing turns E and W into constants and computes the tables from them once."""
    module = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    frozen: torch.jit.ScriptModule = torch.jit.freeze(module.eval())
    return frozen


@contextmanager
def without_fusion() -> Iterator[None]:
    """A module whose first call is made in this block never fuses kernels; other modules are not affected.

    torch compiles a fused kernel for each new shape at its second call, which would stall requests. The
    fusion strategy is a process-wide setting that a module reads once, at its first call.
    """
    before = torch.jit.set_fusion_strategy([])
    try:
        yield
    finally:
        torch.jit.set_fusion_strategy(before)
