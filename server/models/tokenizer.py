"""Text → row of the queue: the token ids of all encoders of a bundle."""

from collections.abc import Sequence
from typing import Self

from server.arrays import Ids
from server.bundle import Bundle
from server.encoders import rows
from server.encoders.base import TextTokenizer


class Tokenizer:
    """The tokenizers of a bundle's encoders, in their order; any number of threads can use it."""

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        return cls([encoder.tokenizer() for encoder in bundle.encoders])

    def __init__(self, parts: Sequence[TextTokenizer]) -> None:
        self._parts = parts
        self.long_text = min(part.long_text for part in parts)

    def encode(self, text: str) -> Ids:
        """int32[tokens]: a row as `server/encoders/rows.py` packs it."""
        return rows.pack([part.encode(text) for part in self._parts])

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """int32[tokens] per text. Releases the GIL for most of the time."""
        columns = [part.encode_all(texts) for part in self._parts]
        return columns[0] if len(columns) == 1 else [rows.pack(parts) for parts in zip(*columns, strict=True)]
