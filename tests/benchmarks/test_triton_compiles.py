"""The fused kernel, compiled for GPUs that need not be there (make fused-test)."""

import os
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed (make fused-test brings it)")

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter is in the compiler's place"
    ),
]


@pytest.mark.parametrize("architecture", [75, 80, 90, 100])
def test_it_compiles_for_gpus_with_wide_loads_and_without_spilling(architecture: int) -> None:
    """For the default bundle's sizes."""
    compiled = compile_for(architecture)
    assert "ld.global.v4" in compiled.asm["ptx"]
    assert ".local" not in compiled.asm["ptx"]


def compile_for(architecture: int) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from benchmarks import triton_fused

    pointers = dict.fromkeys(("tables", "bias", "features"), "*fp32") | dict.fromkeys(
        ("ids", "lengths"), "*i32"
    )
    constants = {
        "WIDTH": 5,
        "TAPS": 15,
        "FILTERS": 100,
        "COLUMNS": 128,
        "WINDOWS": triton_fused.WINDOWS,
        "CHUNK": triton_fused.CHUNK,
    }
    kinds = (
        pointers
        | dict.fromkeys(("length", "stride", "first_tap"), "i32")
        | dict.fromkeys(constants, "constexpr")
    )
    names = triton_fused._bank.arg_names
    source = ASTSource(
        fn=triton_fused._bank,
        signature={name: kinds[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        # what Triton finds out of arguments by itself when it is called
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32))
