"""A transformer as an encoder of a bundle: its tokenizer, and what the server must know of its network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from server.arrays import Ids
from server.encoders.base import Encoder, EncoderSpec, TextTokenizer
from server.encoders.transformer import long_texts
from server.encoders.transformer.tokenizer import TOKENIZER_FILE, TransformerTokenizer, read_tokenizer

LONGEST = 8192
"""Most tokens of a text: those of ModernBERT."""

Precision = Literal["float32", "float16", "int8"]
"""Of the weights. int8: the activations, too, with a scale for each call."""

LongTexts = Literal["truncate", "windows"]
"""What happens to a text of more than `max_length` tokens."""

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "float16": 5e-3, "int8": 5e-2}
"""Largest allowed |Δp| by padding and engine. Rounding to int8 makes 0.01 of the 1e-7 by which ONNX Runtime's
optimisations, and processors, differ.
"""


class TransformerSpec(EncoderSpec):
    """`architecture` as in config.json. `features` is the size of a pooled text, `vocabulary` the rows of the
    embedding. A text of at most `max_length` tokens has the special tokens `prefix` and `suffix`; of a longer
    one, the side `cut` is cut off if it is truncated.
    """

    kind: Literal["transformer"] = "transformer"
    architecture: str = Field(max_length=100)
    features: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    max_length: int = Field(ge=1, le=LONGEST)
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    pad_id: int = Field(ge=0)
    long_texts: LongTexts = "truncate"
    cut: Literal["left", "right"] = "right"
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> "TransformerSpec":
        ids = (self.pad_id, *self.prefix, *self.suffix)
        if not 0 <= min(ids) <= max(ids) < self.vocabulary:
            raise ValueError("special tokens must be in the vocabulary")
        # windows of a few tokens would be as many as the tokens of a text
        least = len(self.prefix) + len(self.suffix) + long_texts.OVERLAP
        if self.max_length < least:
            raise ValueError(f"max_length must leave room for a text: at least {least}")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        return (TOKENIZER_FILE,)

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.precision]

    def read(self, folder: Path) -> "TransformerEncoder":
        return TransformerEncoder(self, read_tokenizer(folder / TOKENIZER_FILE, self.vocabulary))


@dataclass(frozen=True, eq=False)
class TransformerEncoder(Encoder):
    """`content` is that of tokenizer.json."""

    cpu_token_cost = 16

    spec: TransformerSpec
    content: str

    @property
    def min_length(self) -> int:
        return 1

    @property
    def max_length(self) -> int:
        return self.spec.max_length

    def tokenizer(self) -> TextTokenizer:
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> TransformerTokenizer:
        spec = self.spec
        # one more than the network reads, so that `is_cut` sees it
        longest = spec.max_length + 1 if spec.long_texts == "truncate" else None
        return TransformerTokenizer(self.content, pad=spec.pad_id, longest=longest, left=spec.cut == "left")

    def sample(self) -> Ids:
        ids = (*self.spec.prefix, *self.spec.suffix) or (self.spec.pad_id,)
        return np.array(ids, dtype=np.int32)

    def windows(self, ids: Ids) -> list[Ids]:
        spec = self.spec
        if spec.long_texts == "windows":
            return long_texts.windows(ids, spec.max_length, spec.prefix, spec.suffix)
        return [long_texts.cut(ids, spec.max_length, spec.prefix, spec.suffix, left=spec.cut == "left")]

    def is_cut(self, ids: Ids) -> bool:
        return self.spec.long_texts == "truncate" and len(ids) > self.spec.max_length

    def carry_size(self, classes: int) -> int:
        return self.spec.features

    def chunks(self, ids: Ids, size: int) -> list[Ids]:
        return [ids]  # at most `max_length` tokens

    def neutral_chunk(self, chunk: Ids) -> Ids:
        return chunk  # computed again, with the same result

    def table_bytes(self, classes: int) -> int:
        return self.spec.vocabulary * self.spec.features * 4  # the embedding, the largest of its tensors

    def row_bytes(self, length: int) -> int:
        """An upper bound for BERT, MPNet, ModernBERT and DeBERTa-v3, measured with ONNX Runtime's CPU
        provider. Attention has a number for each pair of tokens and each head, of 32 features or more. It is
        twice what one call needs: the second call of a shape takes one block, while the arena keeps the
        pieces of the first.
        """
        width = min(length, self.spec.max_length)
        size = 2 if self.spec.precision == "float16" else 4
        return width * self.spec.features * size * (64 + width // 4)


def transformer_of(encoders: Sequence[Encoder]) -> TransformerEncoder | None:
    """The transformer among the encoders of a bundle; there is at most one."""
    return next((encoder for encoder in encoders if isinstance(encoder, TransformerEncoder)), None)
