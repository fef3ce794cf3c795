"""Text → token ids by a tokenizer that was learned from the training texts: byte-level BPE.

    NFKC, lower case → split at white space, then letters, digits and marks apart → UTF-8 bytes → merges

Every byte is a token, so no text has unknown tokens, in any language. The library `tokenizers` does the work.
It is imported when a bundle with such a tokenizer is read; it imports nothing that reaches a network.

A `tokenizer.json` may ask for anything that the library can do: truncation, special tokens, regular
expressions that take hours. So everything in it but vocabulary and merges must be SETTINGS.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from server.arrays import Ids
from server.encoders.library_tokenizer import library_tokenizer
from server.encoders.unicode_pieces import without_surrogates
from server.errors import BadBundle

LEARNED_FILE = "tokenizer.json"

MAX_LEARNED = 2**27
"""Maximum size of tokenizer.json, in bytes: a million tokens of 24 bytes each, five times over."""

PIECE = 10_000
"""Characters that are encoded together. A longer text is cut, wherever that is: the library makes Python
integers of the tokens, with the GIL, which takes 2 ms for those of a piece.
"""

SETTINGS: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        ],
    },
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    },
}
"""A tokenizer.json without vocabulary and merges."""


class LearnedTokenizer:
    """`content` is that of a tokenizer.json; short rows get the id `pad` up to `min_length` tokens."""

    long_text = 2_000
    """As in `TextTokenizer`: a millisecond or a few."""

    def __init__(self, content: str, *, pad: int, min_length: int) -> None:
        self._library = library_tokenizer(content)
        self._pad, self._min_length = pad, min_length

    def encode(self, text: str) -> Ids:
        """int32[max(tokens, min_length)]."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """int32[max(tokens, min_length)] per text. Releases the GIL for most of the time."""
        pieces = [
            [without_surrogates(text[i : i + PIECE]) for i in range(0, len(text), PIECE)] for text in texts
        ]
        # the library's encode() of one text would hold the GIL
        found = iter(self._library.encode_batch_fast(list(chain(*pieces)), add_special_tokens=False))
        return [self._row([next(found) for _ in each]) for each in pieces]

    def _row(self, pieces: Sequence[Any]) -> Ids:
        ids = [np.array(piece.ids, dtype=np.int32) for piece in pieces]
        tokens = sum(map(len, ids))
        return np.concatenate([*ids, np.full(max(0, self._min_length - tokens), self._pad, dtype=np.int32)])


def read_learned(path: Path, vocabulary: Mapping[str, int]) -> str:
    """The content of a tokenizer.json with this vocabulary. Raises BadBundle."""
    try:
        if path.stat().st_size > MAX_LEARNED:
            raise ValueError(f"expected at most {MAX_LEARNED // 2**20} MB")
        content = path.read_bytes().decode("utf-8")
        _check(json.loads(content), vocabulary)
        library_tokenizer(content)
    except (OSError, ValueError, RecursionError) as error:
        raise BadBundle(f"{path}: {error}; train the bundle again.") from None
    return content


def learned_content(tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> str:
    """The tokenizer.json with these tokens, in the order of their ids, and pairs of tokens to merge, the
    first ones first.
    """
    content = deepcopy(SETTINGS)
    content["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": list(merges)}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _check(content: Any, vocabulary: Mapping[str, int]) -> None:
    """Raises ValueError for anything but the SETTINGS with this vocabulary and merges."""
    try:
        found, _ = content["model"].pop("vocab"), content["model"].pop("merges")
    except (AttributeError, KeyError, TypeError):
        raise ValueError("not a tokenizer with a vocabulary and merges") from None
    if content != SETTINGS:
        raise ValueError("not a tokenizer that `prelabel train` wrote: its settings differ")
    if found != vocabulary:
        raise ValueError("its vocabulary is not that of vocab.txt")
