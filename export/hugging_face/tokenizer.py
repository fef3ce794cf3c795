"""The tokenizer of a Hugging Face directory, as transformers calls it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.hugging_face.eager import import_transformers
from export.parity import NotProven
from server.arrays import Ids
from server.encoders.library_tokenizer import library_tokenizer
from server.encoders.transformer.encoder import TransformerEncoder
from server.errors import BadInput

UNUSUAL = (
    "naïve Café İstanbul Straße",
    "ﬁne Ａ e\u0301",
    "日本語、中文 한국어",
    "😀👍🏽 👩\u200d👩\u200d👧",
    "a\tb\r\nc\u200bd\u00a0e\0f",
    "[CLS] [SEP] [MASK] <s> </s> <mask> <pad>",
    "'s don’t ... --- 10/10 $1,000.00",
    "x" * 300,
)
"""Texts that tokenizers treat differently."""


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """`content` is that of a tokenizer.json; a text has the special tokens `prefix` and `suffix`. `longest`
    is the most tokens that it was made for, if it says so. `cut` is the side that truncation cuts off.
    """

    content: str
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int
    longest: int | None
    cut: Literal["left", "right"]
    library: Any

    def check(self, encoder: TransformerEncoder, texts: Sequence[str]) -> None:
        """Raises NotProven unless `encoder` gives the ids of transformers: truncated, or all of them if it
        reads long texts in windows.
        """
        longest, texts = encoder.max_length, [*UNUSUAL, *texts]
        truncates = encoder.spec.long_texts == "truncate"
        for text, row in zip(texts, encoder.tokenizer().encode_all(texts), strict=True):
            expected = self.library(text, truncation=truncates, max_length=longest)["input_ids"]
            found = encoder.windows(row)[0] if truncates else row
            if expected and not np.array_equal(found, expected):
                raise NotProven(
                    f"the token ids of {text[:60]!r} differ from transformers'; nothing was published."
                )


def load_tokenizer(folder: Path) -> HuggingFaceTokenizer:
    """Raises BadInput."""
    transformers = import_transformers()
    try:
        library = transformers.AutoTokenizer.from_pretrained(
            folder, use_fast=True, local_files_only=True, trust_remote_code=False
        )
        content = _without_limits(library.backend_tokenizer.to_str())
        prefix, suffix = _special_tokens(content)
    except Exception as error:  # transformers and tokenizers raise unrelated types
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"{folder}/tokenizer.json: transformers cannot load it ({type(error).__name__}: {reason})."
        ) from None
    longest = library.model_max_length
    if not isinstance(longest, int | float) or not 0 < longest < 10**9:  # 10**30 stands for none
        longest = None
    return HuggingFaceTokenizer(
        content,
        prefix,
        suffix,
        library.pad_token_id or 0,
        None if longest is None else max(1, int(longest)),
        "left" if library.truncation_side == "left" else "right",
        library,
    )


def _without_limits(content: str) -> str:
    """Without truncation and padding, which the caller of a tokenizer decides about."""
    return json.dumps(json.loads(content) | {"truncation": None, "padding": None}, ensure_ascii=False)


def _special_tokens(content: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those before and after the ids of a text. Raises ValueError."""
    library = library_tokenizer(content)
    plain: Ids = np.array(library.encode("a", add_special_tokens=False).ids)
    whole = library.encode("a").ids
    for begin in range(len(whole) - len(plain) + 1):
        end = begin + len(plain)
        if len(plain) and np.array_equal(whole[begin:end], plain):
            return tuple(whole[:begin]), tuple(whole[end:])
    raise ValueError("its special tokens are not before and after a text")
