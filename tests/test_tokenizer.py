"""`basic_english` against the reference answers and against torchtext's published rules, written as regular expressions."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.bundle import Bundle
from server.tokenizer import Tokenizer, basic_english

PUBLISHED_RULES = [
    (r"\'", " '  "),
    (r"\"", ""),
    (r"\.", " . "),
    (r"<br \/>", " "),
    (r",", " , "),
    (r"\(", " ( "),
    (r"\)", " ) "),
    (r"\!", " ! "),
    (r"\?", " ? "),
    (r"\;", " "),
    (r"\:", " "),
    (r"\s+", " "),
]

awkward = st.lists(
    st.one_of(st.text(), st.sampled_from(["<br />", "<br  />", '<br "/>', "İ", "ẞ", "ΣΣ", "\x1c", "\x85", "\xa0", "\u2028", "'", '"', "...", "don't"]))
).map("".join)


def published(text: str) -> list[str]:
    text = text.lower()
    for pattern, replacement in PUBLISHED_RULES:
        text = re.sub(pattern, replacement, text)
    return text.split()


@given(awkward)
def test_tokens_are_those_of_the_published_rules(text: str) -> None:
    assert basic_english(text) == published(text)


def test_tokens_and_ids_are_those_of_the_tutorial(golden: list[dict[str, Any]], oracle_bundle: Bundle) -> None:
    tokenizer = Tokenizer.of(oracle_bundle)
    for entry in golden:
        assert basic_english(entry["text"]) == entry["tokens"]
        ids = tokenizer.encode(entry["text"]).tolist()
        assert ids[: len(entry["ids"])] == entry["ids"]
        assert ids[len(entry["ids"]) :] == [1] * max(0, 7 - len(entry["ids"]))


def test_a_short_text_is_padded_and_a_long_one_is_not() -> None:
    tokenizer = Tokenizer({"a": 5}, unknown=0, pad=1, min_length=3)
    assert tokenizer.encode("").tolist() == [1, 1, 1]
    assert tokenizer.encode("A b").tolist() == [5, 0, 1]
    assert tokenizer.encode("a b a b").tolist() == [5, 0, 5, 0]
