"""Tests of a CUDA device skip without one."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return "cuda:0"
