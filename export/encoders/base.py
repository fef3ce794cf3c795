"""A fitted encoder: its manifest entry, its files, its tensors, and its part of the network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import parser

from server.encoders.base import EncoderSpec, Tables, TextTokenizer

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedEncoder(ABC):
    """`spec` goes into the manifest."""

    spec: EncoderSpec

    @property
    def has_tables(self) -> bool:
        """Whether it runs on a CPU as tables."""
        return True

    @property
    def traces(self) -> bool:
        """Whether it has a `torch_module`, if torch is installed."""
        return True

    @abstractmethod
    def scaled(self, factor: float) -> "FittedEncoder":
        """The same encoder, whose rows of the head are multiplied by `factor`."""

    @abstractmethod
    def write_files(self, folder: Path) -> None:
        """Write `spec.files`."""

    @abstractmethod
    def tensors(self, position: int) -> Mapping[str, npt.NDArray[Any]]:
        """The initializers of its nodes; their names differ for each position in the bundle."""

    @abstractmethod
    def carry_size(self, classes: int) -> int:
        """As `Encoder.carry_size`."""

    @abstractmethod
    def nodes(self, position: int) -> list[onnx.NodeProto]:
        """Its nodes for opset 18, with names of its own.

        They find int64[rows, length] `all_ids`; int64[rows or 1, 1] `begin` and int64[rows, 1] `end` (which
        of a row's ids are this encoder's); int64 `width`, the most ids of a row that are; float32[rows or 1,
        carry size] `carry`; int64 `zero`, `one`, `length`; its tensors.
        They give float32[rows, classes] `logits` and float32[rows, carry size] `features`.
        """

    @abstractmethod
    def torch_module(self) -> Any:
        """Its nodes as a scriptable torch.nn.Module: (ids int64[rows, length], begin, end, carry) → (logits,
        features), with the shapes of `nodes`. Imports torch.
        """

    @abstractmethod
    def logits(self, texts: Sequence[str]) -> Numbers:
        """float64[texts, classes], by the definition: the reference of the parity check."""

    def tables(self) -> tuple[TextTokenizer, Tables]:
        """What the server uses on a CPU, if it `has_tables`."""
        raise NotImplementedError

    def quick_logits(self, texts: Sequence[str], classes: int) -> Numbers:
        """float64[texts, classes], by the tables: as `logits` within 1e-5, ten times as fast for a CNN."""
        tokenizer, tables = self.tables()
        logits = np.zeros((len(texts), classes), dtype=np.float32)
        for row, ids in enumerate(tokenizer.encode_all(texts)):
            end = np.array([len(ids)], dtype=np.int32)
            tables.add_logits(ids[None], np.zeros_like(end), end, logits[row : row + 1])
        return logits.astype(np.float64)


def parse_nodes(text: str) -> list[onnx.NodeProto]:
    """Nodes in ONNX's text form."""
    return list(parser.parse_graph(f"nodes () => () {{{text}}}").node)
