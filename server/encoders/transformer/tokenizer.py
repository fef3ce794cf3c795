"""Text → token ids, special tokens included, by a tokenizer.json: as transformers calls it, without
truncation.

The library `tokenizers` does the work. It imports nothing that reaches a network.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.arrays import Ids
from server.encoders.library_tokenizer import library_tokenizer
from server.encoders.unicode_pieces import without_surrogates
from server.errors import BadBundle, EngineFailed

TOKENIZER_FILE = "tokenizer.json"

MAX_TOKENIZER = 2**27
"""Maximum size of tokenizer.json, in bytes; those of a quarter of a million tokens have 2**24."""


class TransformerTokenizer:
    """`content` is that of a tokenizer.json. A text without tokens gets the id `pad`.

    With `longest`, a longer text ends there: the caller needs to know only that it is longer. `left` cuts its
    beginning instead.
    """

    def __init__(self, content: str, *, pad: int, longest: int | None = None, left: bool = False) -> None:
        """Raises ValueError."""
        self._library = library_tokenizer(content)
        self._pad = pad
        # a millisecond or a few; a regular expression may take any time
        self.long_text = 0 if '"Regex"' in content else 2_000
        if longest is not None:
            self._library.enable_truncation(longest, direction="left" if left else "right")

    def encode(self, text: str) -> Ids:
        """int32[tokens]."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """int32[tokens] per text. Releases the GIL for most of the time. Raises EngineFailed."""
        try:
            # the library's encode() of one text would hold the GIL
            found = self._library.encode_batch_fast([without_surrogates(text) for text in texts])
        except BaseException as error:
            # its panics, as of a regular expression that gives up, are no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise EngineFailed("the model's tokenizer fails on a text.") from None
        return [np.array(each.ids or [self._pad], dtype=np.int32) for each in found]


def read_tokenizer(path: Path, vocabulary: int) -> str:
    """The content of a tokenizer.json whose ids are below `vocabulary`. Raises BadBundle."""
    try:
        if path.stat().st_size > MAX_TOKENIZER:
            raise ValueError(f"expected at most {MAX_TOKENIZER // 2**20} MB")
        content = path.read_bytes().decode("utf-8")
        check_vocabulary(content, vocabulary)
    except (OSError, ValueError, RecursionError) as error:
        raise BadBundle(f"{path}: {error}; export the bundle again.") from None
    return content


def check_vocabulary(content: str, vocabulary: int) -> None:
    """Raises ValueError if an id of this tokenizer.json is not below `vocabulary`."""
    ids = library_tokenizer(content).get_vocab(with_added_tokens=True).values()
    if max(ids, default=0) >= vocabulary:
        raise ValueError(f"it has ids up to {max(ids)}, but the network has {vocabulary} tokens")
