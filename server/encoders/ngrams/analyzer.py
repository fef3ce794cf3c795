"""Text → n-grams: the definition. `index.py` finds the same n-grams without creating them.

Texts are normalised to NFKC, by `server/encoders/unicode_pieces.py`, and lower-cased (so that full-width
letters, ligatures and capitals are those of everyday text). Words are runs of word characters (`\\w`), and an
n-gram of words is joined by single spaces. N-grams of characters are those of each white-space-separated part
with a space before and after it, as in scikit-learn's `analyzer="char_wb"`; the lone space is left out.
Languages without spaces have no words to split, but have n-grams of characters.
"""

import re
from collections.abc import Iterator
from typing import Literal

from server.encoders.unicode_pieces import lowered, nfkc

Unit = Literal["words", "characters"]


def normalized(text: str) -> str:
    return text.lower() if text.isascii() else lowered(nfkc(text))


def words_of(text: str) -> list[str]:
    """The words of a normalised text."""
    return re.findall(r"\w+", text)


def ngrams_of(text: str, unit: Unit, shortest: int, longest: int) -> Iterator[str]:
    """The n-grams of `shortest` to `longest` words or characters, with repetitions, by their ends, the longer
    first.
    """
    text = normalized(text)
    if unit == "words":
        words = words_of(text)
        for end in range(len(words) + 1):
            for begin in range(max(0, end - longest), end - shortest + 1):
                yield " ".join(words[begin:end])
    else:
        for part in text.split():
            padded = f" {part} "
            for end in range(len(padded) + 1):
                for begin in range(max(0, end - longest), end - shortest + 1):
                    if padded[begin:end] != " ":
                        yield padded[begin:end]
