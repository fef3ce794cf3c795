"""TorchScript never compiles fused kernels while it serves, and leaves torch's settings as they were."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from server.bundle import Bundle
from server.engines.torch_script import TorchScriptEngine, without_fusion

STRATEGY = [("STATIC", 3)]


@pytest.fixture
def fusing() -> Iterator[None]:
    """torch fuses wherever it may, also on the CPU."""
    before = torch.jit.set_fusion_strategy(STRATEGY)
    fuses = torch._C._jit_can_fuse_on_cpu()
    torch._C._jit_override_can_fuse_on_cpu(True)
    yield
    torch._C._jit_override_can_fuse_on_cpu(fuses)
    torch.jit.set_fusion_strategy(before)


@pytest.mark.usefixtures("fusing")
def test_a_module_first_called_without_fusion_is_never_fused() -> None:
    def scripted() -> Any:
        return torch.jit.CompilationUnit("def f(x):\n    return (x * 2 + 1).relu().tanh() * x\n").f

    def fused(function: Any) -> bool:
        """Calls it at several shapes. A torch without LLVM cannot compile what it fuses, and says so."""
        try:
            for size in (4, 4, 4, 5, 5, 5):
                function(torch.ones(size, size))
        except RuntimeError as error:
            return "LLVM Backend not found" in str(error)
        return "TensorExpr" in str(torch._C._last_executed_optimized_graph())

    plain, other = scripted(), scripted()
    with without_fusion():
        plain(torch.ones(4, 4))
    assert (fused(plain), fused(other)) == (False, True)


@pytest.mark.usefixtures("fusing")
def test_an_engine_is_not_fused_and_leaves_the_strategy(bundle: Bundle) -> None:
    engine = TorchScriptEngine(bundle, "cpu")
    for length in (5, 5, 5, 8, 8, 8):
        engine.run(np.ones((2, length), dtype=np.int32), np.full(2, length, dtype=np.int32))
        assert "TensorExpr" not in str(torch._C._last_executed_optimized_graph())
    assert torch.jit.set_fusion_strategy(STRATEGY) == STRATEGY
