"""Text → token ids, exactly as torchtext 0.18 does: `basic_english`, then the vocabulary.

The rules are those of `torchtext.data.utils.get_tokenizer("basic_english")`: lower-case, eleven replacements
in this order, split at white space. The patterns are plain substrings, so `str.replace` is equivalent to the
regular expressions of torchtext; its twelfth pattern, `\\s+` → a space, is what `str.split` does.

`basic_english` is the definition. `BasicEnglish` looks up ids without creating the tokens
(`server/encoders/cnn/vocabulary_index.py`).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from server.arrays import Ids
from server.encoders.cnn.vocabulary_index import END, TokenTable
from server.encoders.unicode_pieces import lowered

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

_NON_ASCII_SPACES = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def basic_english(text: str) -> list[str]:
    """Tokens of `text`; no token is empty or contains white space."""
    text = text.lower()
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    return text.split()


def _prepared(text: str) -> bytes:
    r"""The replacements of `basic_english` that span several characters, as UTF-8; the table does the rest.

    The order differs, the tokens are the same. `"` is removed before `<br />`, because `<br "/>` becomes one
    without it. The other replacements are of single characters; the spaces that they add next to `'` and `.`
    cannot complete a `<br />`. Non-ASCII white space is replaced after `<br />`, because `<br\xa0/>` is
    not a line break.
    """
    text = lowered(text).replace('"', "").replace("<br />", " ")
    if not text.isascii():
        for space in _NON_ASCII_SPACES:
            text = text.replace(space, " ")
    return text.encode("utf-8", "surrogatepass")


class BasicEnglish:
    """`vocabulary`: token → id. Other tokens get the id `unknown`; short rows get the id `pad` up to
    `min_length` tokens.
    """

    long_text = 100_000

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        self._table = TokenTable(vocabulary, unknown=unknown, pad=pad, min_length=min_length)

    def encode(self, text: str) -> Ids:
        """int32[max(tokens, min_length)]. Padding up to `min_length` counts as text, as in the tutorial."""
        ids, _ = self._table.look_up(_prepared(text) + END, 1)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """int32[tokens] per text, as views of one array. Releases the GIL once for all texts, for most of the
        time.
        """
        ids, ends = self._table.look_up(b"".join([_prepared(text) + END for text in texts]), len(texts))
        return [ids[begin:end] for begin, end in pairwise((0, *ends))]
