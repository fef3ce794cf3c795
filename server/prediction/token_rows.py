"""Texts as token ids, for a model that is a single transformer."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.arrays import Ids
from server.encoders.transformer.encoder import TransformerEncoder


@dataclass(frozen=True)
class TokenRows:
    """`rows` int32[tokens] of each text, special tokens included, none empty; `longest` is the most tokens of
    one, `largest` the largest id.
    """

    rows: Sequence[Ids]
    longest: int
    largest: int

    def __len__(self) -> int:
        return len(self.rows)

    def fit(self, transformer: TransformerEncoder) -> bool:
        """Whether it reads rows of so many tokens, and has such ids."""
        return self.longest <= transformer.max_length and self.largest < transformer.spec.vocabulary
