"""`basic_english` against the reference answers and against torchtext's published rules, written as regular
expressions; the ids against `basic_english`.
"""

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from server.bundle import Bundle
from server.encoders.cnn.basic_english import BasicEnglish, basic_english
from server.encoders.cnn.vocabulary_index import END, TokenTable
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts

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
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                "<br />",
                "<br  />",
                '<br "/>',
                "İ",
                "ẞ",
                "ΣΣ",
                "\x1c",
                "\x85",
                "\xa0",
                "\u2028",
                "'",
                '"',
                "...",
                "don't",
            ]
        ),
    )
).map("".join)

crowded = st.text(
    alphabet="'\"<br />BR.,()!?;:\n\t\x00\x1c\x1f\x7f\x85\xa0\u2028\u3000\ud800\udfffİßΣσςéaz😀", max_size=40
)
"""Mostly characters that a rule mentions, so that rules interact."""


def published(text: str) -> list[str]:
    text = text.lower()
    for pattern, replacement in PUBLISHED_RULES:
        text = re.sub(pattern, replacement, text)
    return text.split()


@given(awkward)
def test_tokens_are_those_of_the_published_rules(text: str) -> None:
    assert basic_english(text) == published(text)


def test_tokens_and_ids_are_those_of_the_tutorial(
    golden: list[dict[str, Any]], oracle_bundle: Bundle
) -> None:
    tokenizer = Tokenizer.of(oracle_bundle)
    for entry in golden:
        assert basic_english(entry["text"]) == entry["tokens"]
        ids = tokenizer.encode(entry["text"]).tolist()
        assert ids[: len(entry["ids"])] == entry["ids"]
        assert ids[len(entry["ids"]) :] == [1] * max(0, 7 - len(entry["ids"]))


def test_a_short_text_is_padded_and_a_long_one_is_not() -> None:
    tokenizer = BasicEnglish({"a": 5}, unknown=0, pad=1, min_length=3)
    assert tokenizer.encode("").tolist() == [1, 1, 1]
    assert tokenizer.encode("A b").tolist() == [5, 0, 1]
    assert tokenizer.encode("a b a b").tolist() == [5, 0, 5, 0]


def defined(
    texts: Sequence[str], vocabulary: dict[str, int], *, unknown: int, pad: int, min_length: int
) -> list[list[int]]:
    """Reference implementation of the ids."""
    rows = [[vocabulary.get(token, unknown) for token in basic_english(text)] for text in texts]
    return [row + [pad] * (min_length - len(row)) for row in rows]


@given(st.lists(st.one_of(crowded, awkward, st.text()), max_size=5), st.integers(1, 5), st.integers(1, 4))
@example(
    [
        "<br />",
        '<b"r />',
        "<br./>",
        "<br' />",
        "<br<br />/>",
        "<BR />",
        "<br\xa0/>",
        "<br\t/>",
        "ΑΣ. Σ'Σ",
        "",
    ],
    5,
    1,
)
def test_ids_are_those_of_the_tokens(texts: list[str], nth: int, min_length: int) -> None:
    tokens = sorted({token for text in texts for token in basic_english(text)})
    vocabulary = {
        token: i for i, token in enumerate(tokens, start=10) if i % nth
    }  # every nth token is unknown
    tokenizer = BasicEnglish(vocabulary, unknown=3, pad=4, min_length=min_length)
    expected = defined(texts, vocabulary, unknown=3, pad=4, min_length=min_length)
    assert [row.tolist() for row in tokenizer.encode_all(texts)] == expected
    assert [tokenizer.encode(text).tolist() for text in texts] == expected


def test_ids_are_those_of_the_tokens_around_every_character() -> None:
    first_plain = 0x20000  # no white space and no case from here on, so all characters behave alike
    assert not any(
        chr(point).isspace() or chr(point).lower() != chr(point)
        for point in range(first_plain, sys.maxunicode + 1)
    )
    texts = [
        "".join(f"a{chr(first + i)}b <br{chr(first + i)}/> " for i in range(256))
        for first in range(0, first_plain + 1, 256)
    ]
    vocabulary = {
        token: i
        for i, token in enumerate(dict.fromkeys(token for text in texts for token in basic_english(text)))
    }
    rows = BasicEnglish(vocabulary, unknown=-1, pad=-2, min_length=1).encode_all(texts)
    assert [row.tolist() for row in rows] == defined(texts, vocabulary, unknown=-1, pad=-2, min_length=1)


@given(st.dictionaries(st.text(), st.integers(-(2**31), 2**31 - 1)), st.lists(st.text()))
def test_any_vocabulary_gives_the_same_ids_as_a_dict(vocabulary: dict[str, int], texts: list[str]) -> None:
    texts = [*texts, " ".join(vocabulary)]
    rows = BasicEnglish(vocabulary, unknown=-1, pad=-2, min_length=2).encode_all(texts)
    assert [row.tolist() for row in rows] == defined(texts, vocabulary, unknown=-1, pad=-2, min_length=2)


def test_tokens_with_the_same_hash_are_distinguished() -> None:
    one, other = "8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"  # a known pair of FNV-1a

    def ids(vocabulary: dict[str, int]) -> list[int]:
        found, _ = TokenTable(vocabulary, unknown=0, pad=1, min_length=1).look_up(
            f"{one} {other}".encode() + END, 1
        )
        return [*map(int, found)]

    assert ids({one: 5}) == [5, 0]
    assert ids({other: 6}) == [0, 6]
    assert ids({one: 5, other: 6}) == [5, 6]


def test_a_long_text_and_a_long_token() -> None:
    tokenizer = BasicEnglish({"film": 5, "x" * 100_000: 6}, unknown=0, pad=1, min_length=3)
    assert tokenizer.encode("film " * 100_000).tolist() == [5] * 100_000
    assert tokenizer.encode("X" * 100_000 + " " + "x" * 99_999).tolist() == [6, 0, 1]


def test_no_texts_and_no_vocabulary() -> None:
    tokenizer = BasicEnglish({}, unknown=0, pad=1, min_length=3)
    assert tokenizer.encode_all([]) == []
    assert tokenizer.encode("a b").tolist() == [0, 0, 1]


def test_threads_share_a_tokenizer(bundle: Bundle) -> None:
    tokenizer, texts = Tokenizer.of(bundle), random_texts(64)
    expected = [tokenizer.encode(text).tolist() for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(tokenizer.encode_all, [texts] * 32):
            assert [row.tolist() for row in rows] == expected
