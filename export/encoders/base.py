"""A fitted encoder: its manifest entry, its files, its tensors, and its part of the network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import parser

from server.encoders.base import EncoderSpec, Tables, TextTokenizer

Numbers = npt.NDArray[np.float64]

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


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


def read_by(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node reads, those of the graphs in its attributes included, which see all names
    around them.
    """
    inner = (each for graph in _graphs(node) for each in graph.node)
    return [*node.input, *(name for each in inner for name in read_by(each))]


def rename(node: onnx.NodeProto, new_name: Callable[[str], str]) -> None:
    """Change the names of the tensors that a node, and the graphs in its attributes, read and make."""
    for names in (node.input, node.output):
        names[:] = map(new_name, names)
    for graph in _graphs(node):
        for value in graph.output:
            value.name = new_name(value.name)
        for inner in graph.node:
            rename(inner, new_name)


def has_own_operators(node: onnx.NodeProto) -> bool:
    """Whether the node, or one in the graphs of its attributes, is of MICROSOFT."""
    inner = (each for graph in _graphs(node) for each in graph.node)
    return node.domain == MICROSOFT or any(map(has_own_operators, inner))


def _graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Those of the branches of an If."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]
