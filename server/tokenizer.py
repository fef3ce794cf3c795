"""Text → token ids, exactly as torchtext 0.18 does: `basic_english`, then the vocabulary.

The rules are those of `torchtext.data.utils.get_tokenizer("basic_english")`: lower-case, then eleven
replacements in this order, then split at white space. They are plain substrings, so `str.replace` says the same
as torchtext's regular expressions; its twelfth, `\\s+` → a space, is what `str.split` does anyway.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Self

import numpy as np

from server.arrays import Ids
from server.bundle import Bundle

_REPLACEMENTS = (
    ("'", " '  "),
    ('"', ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
)


def basic_english(text: str) -> list[str]:
    """The tokens of `text`; none of them is empty or holds white space."""
    text = text.lower()
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    return text.split()


class Tokenizer:
    """`vocabulary` token → id; tokens outside it become `unknown`; rows are filled with `pad` up to `min_length` tokens."""

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        manifest = bundle.manifest
        return cls(bundle.vocabulary, unknown=manifest.unknown_id, pad=manifest.pad_id, min_length=manifest.min_length)

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        self._vocabulary = dict(vocabulary)  # a plain dict is looked up twice as fast as a read-only view of one
        self._unknown = unknown
        self._padding: Sequence[int] = [pad] * min_length

    def encode(self, text: str) -> Ids:
        """ids int32[max(tokens, min_length)]. Padding to `min_length` counts as text, as in the tutorial."""
        ids = [*map(self._vocabulary.get, basic_english(text), repeat(self._unknown))]
        ids += self._padding[len(ids) :]
        return np.array(ids, dtype=np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        return [self.encode(text) for text in texts]
