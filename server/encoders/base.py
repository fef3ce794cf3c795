"""What an encoder is, for everything outside its own package.

    text ──tokenizer──▶ token ids ──tables──▶ logits += this encoder's features × its rows of the head

A long text runs in chunks. The carry is what one chunk hands to the next: the maxima of a CNN, the sums of
n-grams.

A new kind is a package next to `cnn/`, `ngrams/` and `transformer/`, a line in `kinds.py`, and a fitted
encoder in `export/encoders/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from server.arrays import Floats, Ids

Tensors = Mapping[str, npt.NDArray[Any]]
"""The named tensors of a model.onnx."""


class TextTokenizer(Protocol):
    """Text → token ids, safe to call from several threads."""

    long_text: int
    """Characters of a text from which `encode` takes too long for the event loop."""

    def encode(self, text: str) -> Ids:
        """int32[tokens], at least the encoder's `min_length`."""

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """int32[tokens] per text. Releases the GIL for most of the time."""


@dataclass(frozen=True)
class Tables(ABC):
    """An encoder's weights for the CPU, as arrays that several processes can share."""

    @abstractmethod
    def add_logits(self, ids: Ids, begins: Ids, ends: Ids, logits: Floats) -> None:
        """ids int32[rows, length], of which this encoder's are begins[row]:ends[row] → adds its part to
        `logits` float32[rows, classes]. Computes in the caller's thread, without the GIL.
        """


class EncoderSpec(BaseModel, ABC):
    """An encoder as the manifest describes it: its kind and settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @property
    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Names of the bundle's files that the encoder reads besides model.onnx."""

    @property
    def tolerance(self) -> float:
        """Largest allowed difference in probability between engines, paddings, and batches."""
        return 1e-5

    @abstractmethod
    def read(self, folder: Path) -> "Encoder":
        """The encoder with its files, from a bundle's folder. Raises BadBundle."""


@dataclass(frozen=True, eq=False)
class Encoder(ABC):
    """An encoder with its files read."""

    tables_type: ClassVar[type[Tables] | None] = None
    """The tables that run it on a CPU; without them, ONNX Runtime does."""

    cpu_token_cost: ClassVar[int] = 1
    """What a token costs on a CPU, as a multiple of one in tables."""

    @property
    @abstractmethod
    def min_length(self) -> int:
        """The fewest tokens of a text."""

    @property
    def max_length(self) -> int | None:
        """The most tokens of a text that the network takes, if it has such a limit."""
        return None

    @abstractmethod
    def tokenizer(self) -> TextTokenizer: ...

    @abstractmethod
    def sample(self) -> Ids:
        """The ids of a short text, at least one of which the network knows: int32[min_length or more]."""

    def windows(self, ids: Ids) -> list[Ids]:
        """The ids of a text as rows for the network, of at most `max_length` tokens each. The logits of a
        text are the mean over its rows, weighted by their tokens.
        """
        return [ids]

    def is_cut(self, ids: Ids) -> bool:
        """Whether `windows` leaves some of the text out."""
        return False

    @abstractmethod
    def carry_size(self, classes: int) -> int:
        """Numbers that a row of many chunks carries from one chunk to the next."""

    @abstractmethod
    def chunks(self, ids: Ids, size: int) -> list[Ids]:
        """The ids of a long text in chunks of at most `size` tokens, which give its result if they
        run one after another with the carry."""

    @abstractmethod
    def neutral_chunk(self, chunk: Ids) -> Ids:
        """A chunk that changes nothing after `chunk`, the last one."""

    @abstractmethod
    def table_bytes(self, classes: int) -> int:
        """Bytes of its tables in float32, on a GPU."""

    def row_bytes(self, length: int) -> int:
        """Most bytes of a GPU's memory that a row of this padded length takes in a call, if that bounds the
        rows of a call; else 0.
        """
        return 0

    def read_tables(self, tensors: Tensors, position: int, classes: int) -> Tables:
        """The weights for the CPU, from the tensors of model.onnx; `position` is the encoder's place among
        those of the bundle. Raises KeyError or ValueError for tensors that are not this encoder's.
        """
        raise ValueError("the encoder has no tables")
