"""Reads a model's folder ($PEER_MODEL, written by `benchmarks.peers.models`) and encodes texts as ids.

Runs in the peers' environments, without any package of Prelabel.
"""

import json
import os
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

MARKS = (
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
"""The rules of torchtext's `basic_english`, in order, as plain substrings."""


def tokens_of(text: str) -> list[str]:
    text = text.lower()
    for old, new in MARKS:
        text = text.replace(old, new)
    return text.split()


def model_folder() -> Path:
    return Path(os.environ["PEER_MODEL"])


def read_facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((model_folder() / "facts.json").read_text())
    return facts


class Vocabulary:
    """Tokens → ids, padded to the widest filter as in the tutorial."""

    def __init__(self, facts: dict[str, Any]) -> None:
        lines = (model_folder() / "vocab.txt").read_bytes().decode().removesuffix("\n").split("\n")
        self._ids = {token: i for i, token in enumerate(lines)}
        self._unknown, self._pad, self._least = facts["unknown"], facts["pad"], facts["min_length"]

    def ids(self, tokens: Sequence[str]) -> list[int]:
        return [
            *map(self._ids.get, tokens, repeat(self._unknown)),
            *repeat(self._pad, self._least - len(tokens)),
        ]
