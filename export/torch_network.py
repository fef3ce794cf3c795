"""The network of fitted encoders as TorchScript. Needs torch."""

from collections.abc import Sequence
from pathlib import Path

from export.encoders.base import FittedEncoder
from server.arrays import Floats
from server.bundle import Head


def write_torch_script(encoders: Sequence[FittedEncoder], head_bias: Floats, head: Head, path: Path) -> None:
    raise NotImplementedError
