"""Text → token ids, exactly as torchtext 0.18 does: `basic_english`, then the vocabulary.

The rules are those of `torchtext.data.utils.get_tokenizer("basic_english")`: lower-case, then eleven
replacements in this order, then split at white space. They are plain substrings, so `str.replace` says the
same as torchtext's regular expressions; its twelfth, `\\s+` → a space, is what `str.split` does anyway.

`basic_english` is the definition. `Tokenizer` gives the ids of its tokens without making them
(`server/models/vocabulary_index.py`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

from server.arrays import Ids
from server.bundle import Bundle
from server.models.vocabulary_index import END, TokenTable

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

_SPACES_BEYOND_ASCII = "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


def basic_english(text: str) -> list[str]:
    """The tokens of `text`; none of them is empty or holds white space."""
    text = text.lower()
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    return text.split()


def _prepared(text: str) -> bytes:
    r"""What `basic_english` does to more than one character at a time, as UTF-8; the table does the rest.

    The replacements come in another order and make the same tokens. `"` must go before `<br />`, since `<br
    "/>` is one without it. The others are of one character, and the spaces that `'` and `.` bring stand
    beside these, where they complete no `<br />`. White space beyond ASCII becomes a space after it, for
    `<br\xa0/>` is none.
    """
    text = text.lower().replace('"', "").replace("<br />", " ")
    if not text.isascii():
        for space in _SPACES_BEYOND_ASCII:
            text = text.replace(space, " ")
    return text.encode("utf-8", "surrogatepass")


class Tokenizer:
    """`vocabulary` token → id; tokens outside it become `unknown`; rows are filled with `pad` up to
    `min_length` tokens.
    """

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        manifest = bundle.manifest
        return cls(
            bundle.vocabulary,
            unknown=manifest.unknown_id,
            pad=manifest.pad_id,
            min_length=manifest.min_length,
        )

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        self._table = TokenTable(vocabulary, unknown=unknown, pad=pad, min_length=min_length)

    def encode(self, text: str) -> Ids:
        """ids int32[max(tokens, min_length)]. Padding to `min_length` counts as text, as in the tutorial."""
        ids, _ = self._table.look_up(_prepared(text) + END, 1)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, as views of one array. The interpreter's lock is released for most of the
        time, once for all texts.
        """
        ids, ends = self._table.look_up(b"".join([_prepared(text) + END for text in texts]), len(texts))
        return [ids[begin:end] for begin, end in pairwise((0, *ends))]
