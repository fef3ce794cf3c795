"""N-grams as an encoder of a bundle: the list of n-grams, their index, their tables."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from server.arrays import Ids
from server.encoders.base import Encoder, EncoderSpec, Tensors, TextTokenizer
from server.encoders.lines import read_lines
from server.encoders.ngrams.analyzer import Unit
from server.encoders.ngrams.index import COUNT_BITS, NgramIndex
from server.encoders.ngrams.tables import NgramTables, read_ngram_tables
from server.errors import BadBundle

LONGEST = 8
"""Most words or characters of an n-gram."""


class NgramsSpec(EncoderSpec):
    """N-grams of `shortest` to `longest` words or characters. The weight of one in a text is (1 + ln
    occurrences) × idf, and the weights of a text have length 1 (sublinear TF-IDF: Manning et al. 2008,
    "Introduction to Information Retrieval", §6.4).
    """

    kind: Literal["ngrams"] = "ngrams"
    unit: Unit
    shortest: int = Field(ge=1, le=LONGEST)
    longest: int = Field(ge=1, le=LONGEST)

    @model_validator(mode="after")
    def _consistent(self) -> "NgramsSpec":
        if self.shortest > self.longest:
            raise ValueError("shortest must be at most longest")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        return (f"{self.unit}.txt",)

    def read(self, folder: Path) -> "NgramsEncoder":
        (file,) = self.files
        ngrams = read_lines(folder / file)
        encoder = NgramsEncoder(self, tuple(ngrams))
        try:
            encoder.tokenizer()
        except (ValueError, KeyError) as error:
            raise BadBundle(f"{folder / file}: {error}; export the bundle again.") from None
        return encoder


@dataclass(frozen=True, eq=False)
class NgramsEncoder(Encoder):
    """`ngrams` in the order of their numbers, from 1."""

    tables_type = NgramTables

    spec: NgramsSpec
    ngrams: tuple[str, ...]

    @property
    def min_length(self) -> int:
        return 1  # a text without n-grams is [0]

    def tokenizer(self) -> TextTokenizer:
        return self._index

    @cached_property
    def _index(self) -> NgramIndex:
        """Raises ValueError for an n-gram that is repeated, or that no text can contain."""
        spec = self.spec
        return NgramIndex(self.ngrams, spec.unit, spec.shortest, spec.longest)

    def sample(self) -> Ids:
        return np.array([1 << COUNT_BITS | 1], dtype=np.int32)

    def carry_size(self, classes: int) -> int:
        return classes + 1  # the sums, and the squared length

    def chunks(self, ids: Ids, size: int) -> list[Ids]:
        """Each n-gram is in one chunk; sums add up."""
        return [ids[begin : begin + size] for begin in range(0, len(ids), size)]

    def neutral_chunk(self, chunk: Ids) -> Ids:
        return np.zeros_like(chunk[:1])

    def table_bytes(self, classes: int) -> int:
        return (len(self.ngrams) + 1) * (classes + 1) * 4

    def read_tables(self, tensors: Tensors, position: int, classes: int) -> NgramTables:
        return read_ngram_tables(tensors, position, len(self.ngrams), classes)
