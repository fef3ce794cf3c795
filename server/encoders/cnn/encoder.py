"""The CNN as an encoder of a bundle: vocabulary, tokenizer, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from server.arrays import Ids
from server.encoders.base import Encoder, EncoderSpec, Tensors, TextTokenizer
from server.encoders.cnn.basic_english import BasicEnglish
from server.encoders.cnn.learned import LEARNED_FILE, LearnedTokenizer, read_learned
from server.encoders.cnn.tables import Int16Tables, read_int16_tables
from server.encoders.lines import read_lines
from server.errors import BadBundle

WIDEST = 1_000
"""Most tokens of a filter."""


class CnnSpec(EncoderSpec):
    """`widths` of the filters in tokens; `features` = filters × widths. A learned `tokenizer` has a
    tokenizer.json besides vocab.txt, the tokens in the order of their ids.
    """

    kind: Literal["cnn"] = "cnn"
    tokenizer: Literal["basic_english", "learned"] = "basic_english"
    unknown_id: int = Field(ge=0)
    pad_id: int = Field(ge=0)
    widths: tuple[Annotated[int, Field(ge=1, le=WIDEST)], ...] = Field(min_length=1)
    min_length: int = Field(ge=1)
    features: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "CnnSpec":
        if self.min_length != max(self.widths):
            raise ValueError("min_length must be the width of the widest filter")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        return ("vocab.txt", LEARNED_FILE) if self.tokenizer == "learned" else ("vocab.txt",)

    def read(self, folder: Path) -> "CnnEncoder":
        vocabulary = {token: i for i, token in enumerate(read_lines(folder / "vocab.txt"))}
        if not max(self.unknown_id, self.pad_id) < len(vocabulary):
            raise BadBundle(
                f"{folder}: unknown_id and pad_id must be less than {len(vocabulary)}, the number of tokens "
                "in vocab.txt."
            )
        learned = read_learned(folder / LEARNED_FILE, vocabulary) if self.tokenizer == "learned" else None
        return CnnEncoder(self, MappingProxyType(vocabulary), learned)


@dataclass(frozen=True, eq=False)
class CnnEncoder(Encoder):
    """`vocabulary` maps token → id; `learned` is the content of tokenizer.json."""

    tables_type = Int16Tables

    spec: CnnSpec
    vocabulary: Mapping[str, int]
    learned: str | None = None

    @property
    def min_length(self) -> int:
        return self.spec.min_length

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self.vocabulary)

    def tokenizer(self) -> TextTokenizer:
        spec = self.spec
        return tokenizer_of(
            self.vocabulary,
            self.learned,
            unknown=spec.unknown_id,
            pad=spec.pad_id,
            min_length=spec.min_length,
        )

    def sample(self) -> Ids:
        ids: Ids = (np.arange(self.min_length, dtype=np.int32) * 7) % len(self.vocabulary)
        return ids

    def carry_size(self, classes: int) -> int:
        return self.spec.features

    def chunks(self, ids: Ids, size: int) -> list[Ids]:
        """The maximum over windows is a maximum over chunks if chunks overlap by `min_length` − 1 tokens, so
        that each window lies in one chunk. The last chunk ends where the text ends, so every chunk is full.
        """
        size = min(len(ids), size)
        begins = [*range(0, len(ids) - size, size - (self.min_length - 1)), len(ids) - size]
        return [ids[begin : begin + size] for begin in begins]

    def neutral_chunk(self, chunk: Ids) -> Ids:
        return chunk  # its maximum is there already

    def table_bytes(self, classes: int) -> int:
        """Words × Σ widths × filters × 4."""
        filters = self.spec.features // len(self.spec.widths)
        return len(self.vocabulary) * sum(self.spec.widths) * filters * 4

    def read_tables(self, tensors: Tensors, position: int, classes: int) -> Int16Tables:
        return read_int16_tables(tensors, self.spec.widths, len(self.vocabulary))


def tokenizer_of(
    vocabulary: Mapping[str, int], learned: str | None, *, unknown: int, pad: int, min_length: int
) -> TextTokenizer:
    """The tokenizer.json `learned`, else `basic_english` with the vocabulary."""
    if learned is not None:
        return LearnedTokenizer(learned, pad=pad, min_length=min_length)
    return BasicEnglish(vocabulary, unknown=unknown, pad=pad, min_length=min_length)


def cnn_of(encoders: Sequence[Encoder]) -> CnnEncoder:
    """The CNN among the encoders of a bundle. Raises BadBundle if there is none."""
    for encoder in encoders:
        if isinstance(encoder, CnnEncoder):
            return encoder
    raise BadBundle("the bundle has no CNN; choose one that has.")
