"""Unicode operations on long texts, a piece at a time.

Python keeps the GIL until an operation on a string is done, and some take long: a million capital İ are
lower-cased in 0.07 s, and sorting 100,000 combining marks for NFKC takes 40 s, because it takes quadratic
time. Between two pieces, other threads have their turn.
"""

import re
import unicodedata
from collections.abc import Iterator

PIECE = 10_000
"""Characters that are lower-cased or encoded at a time."""

NFKC_PIECE = re.compile(r".{1,100}(?=\s)|.{1,100}", re.DOTALL)
"""Characters that are normalised at a time: up to white space, which marks do not cross, or a hundred."""

MOST_LONGER = 4
"""A piece that NFKC would make more than this number of times as long stays as it is. One character may
become 18.
"""

SIGMA = "Σ"
"""Becomes ς at the end of a word and σ elsewhere, the only letter that others decide about."""

STOPS = ("Lu", "Ll", "Lt", "Lo", "Nd", "Zs")
"""Categories of characters beyond which lower-casing SIGMA does not look; it looks beyond marks and
apostrophes (Unicode 16, section 3.13, Final_Sigma).
"""


def nfkc(text: str) -> str:
    """`text` in NFKC. A mark after a hundred characters without white space might be left uncomposed."""
    if len(text) <= PIECE and unicodedata.is_normalized("NFKC", text):
        return text
    return "".join(_nfkc_piece(found[0]) for found in NFKC_PIECE.finditer(text))


def lowered(text: str) -> str:
    """`text.lower()`."""
    if len(text) <= PIECE or text.isascii():
        return text.lower()
    return "".join(_lowered_pieces(text))


def utf_32(text: str) -> bytes:
    """The code points of `text`, four bytes each, lone surrogates included."""
    try:
        return text.encode("utf-32-le")
    except UnicodeEncodeError:
        pieces = (text[begin : begin + PIECE] for begin in range(0, len(text), PIECE))
        return b"".join(piece.encode("utf-32-le", "surrogatepass") for piece in pieces)


def without_surrogates(text: str) -> str:
    """Without surrogates, which UTF-8 does not have: pairs become their character, others U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _nfkc_piece(piece: str) -> str:
    found = unicodedata.normalize("NFKC", piece)
    return found if len(found) <= MOST_LONGER * len(piece) else piece


def _lowered_pieces(text: str) -> Iterator[str]:
    """A piece ends with a character that stops what SIGMA looks for, and is lower-cased after the one before
    it.
    """
    begin, before = 0, ""
    while begin < len(text):
        end = begin + PIECE
        while end < len(text) and not _may_end(text[end - 1]):
            end += 1
        piece = (before + text[begin:end]).lower()
        yield piece[len(before.lower()) :]
        begin, before = end, text[end - 1 : end]


def _may_end(character: str) -> bool:
    return character != SIGMA and unicodedata.category(character) in STOPS
