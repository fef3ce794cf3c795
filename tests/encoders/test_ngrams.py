"""N-grams: the definition against scikit-learn, the index against the definition, and the automaton."""

import re
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from server.encoders.ngrams.analyzer import Unit, ngrams_of, normalized, words_of
from server.encoders.ngrams.automaton import NGRAM, ROOT, SUFFIX, build_automaton, next_node
from server.encoders.ngrams.index import _GAP, _WORD, COUNT_BITS, MAX_COUNT, NgramIndex, _kinds

AWKWARD = (
    "",
    " \t\n\u3000\x1c",
    "\0",
    "a\0b \0",
    "\ud800 \udfff\ud800",
    "ﬁlm Ｆｕｌｌ ½ İstanbul ẞ",
    "日本語のテキスト、中文 文字",
    "e\u0301 \u00e9 \u1100\u1161",
    "\U0001d400\U0001f600 _x_ 10/10",
    "aaa " * 200,
    "a" * 5000,
)
text = st.text(st.characters(codec=None) | st.sampled_from("ab c\t_\u3000é\ud800\0ﬁ日")) | st.text(
    "ab ", max_size=400
)
sizes = st.tuples(st.integers(1, 5), st.integers(0, 3)).map(lambda pair: (pair[0], sum(pair)))


def by_definition(content: str, ngrams: Sequence[str], unit: Unit, shortest: int, longest: int) -> list[int]:
    """The row of ids that the index must give."""
    numbers = {ngram: i for i, ngram in enumerate(ngrams, start=1)}
    counts = Counter(ngrams_of(content, unit, shortest, longest))  # keeps the order of first ends
    row = [
        numbers[ngram] << COUNT_BITS | min(count, MAX_COUNT)
        for ngram, count in counts.items()
        if ngram in numbers
    ]
    return row or [0]


@pytest.mark.parametrize("content", AWKWARD)
@pytest.mark.parametrize("unit", ["words", "characters"])
def test_the_definition_is_that_of_scikit_learn_on_normalised_texts(content: str, unit: Unit) -> None:
    """But for the lone space, which scikit-learn counts among n-grams of one character."""
    check_scikit_learn(content, unit, (1, 4))


@given(text, st.sampled_from(["words", "characters"]), sizes)
def test_the_definition_is_that_of_scikit_learn(content: str, unit: Unit, of: tuple[int, int]) -> None:
    check_scikit_learn(content, unit, of)


def check_scikit_learn(content: str, unit: Unit, of: tuple[int, int]) -> None:
    analyzer = {"words": "word", "characters": "char_wb"}[unit]
    oracle = CountVectorizer(
        analyzer=analyzer, ngram_range=of, token_pattern=r"(?u)\w+", lowercase=False
    ).build_analyzer()
    expected = Counter(ngram for ngram in oracle(normalized(content)) if ngram != " ")
    if unit == "characters":
        # a part shorter than n counts once in scikit-learn, whatever the shortest length
        expected = Counter({each: n for each, n in expected.items() if of[0] <= len(each)})
    assert Counter(ngrams_of(content, unit, *of)) == expected


@given(
    st.lists(text, max_size=5), st.lists(text, max_size=5), st.sampled_from(["words", "characters"]), sizes
)
@example(list(AWKWARD), list(AWKWARD[::2]), "words", (1, 2))
@example(list(AWKWARD), list(AWKWARD[::2]), "characters", (1, 5))
@example(list(AWKWARD), list(AWKWARD[::2]), "characters", (3, 8))
def test_the_index_finds_what_the_definition_says(
    texts: list[str], known: list[str], unit: Unit, of: tuple[int, int]
) -> None:
    """With n-grams that the index knows and others: numba once compiled it wrongly."""
    found = dict.fromkeys(ngram for each in [*known, *texts[:2]] for ngram in ngrams_of(each, unit, *of))
    ngrams = list(found)
    index = NgramIndex(ngrams, unit, *of)
    expected = [by_definition(each, ngrams, unit, *of) for each in texts]
    assert [row.tolist() for row in index.encode_all(texts)] == expected
    assert [index.encode(each).tolist() for each in texts] == expected


def test_more_than_127_occurrences_count_as_127() -> None:
    index = NgramIndex(["a", "b"], "words", 1, 1)
    assert index.encode("a " * 126).tolist() == [1 << COUNT_BITS | 126]
    assert index.encode("b " + "a " * 1000).tolist() == [2 << COUNT_BITS | 1, 1 << COUNT_BITS | 127]


@pytest.mark.parametrize(("ngram", "unit"), [("a b c", "words"), ("!", "words"), ("abc", "characters")])
def test_an_ngram_of_another_length_is_refused(ngram: str, unit: Unit) -> None:
    with pytest.raises(ValueError, match="expected 1 to 2"):
        NgramIndex([ngram], unit, 1, 2)


def test_a_very_long_text() -> None:
    content = "".join(map(str, range(60_000)))
    ngrams = list(dict.fromkeys(ngrams_of(content, "characters", 1, 4)))
    found = NgramIndex(ngrams, "characters", 1, 4).encode(content)
    assert found.tolist() == by_definition(content, ngrams, "characters", 1, 4)
    assert len(found) == len(ngrams)


def test_kinds_of_code_points_are_those_of_re_and_str() -> None:
    """As `\\w` and `str.split` see them, for all of Unicode."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    words = np.array([re.fullmatch(r"\w", each) is not None for each in everything])
    gaps = np.array([each.isspace() for each in everything])
    assert not "".join(everything[i] for i in np.flatnonzero(gaps)).split()
    assert np.array_equal(_kinds() == _WORD, words)
    assert np.array_equal(_kinds() == _GAP, gaps)
    assert words_of("a_b-c") == ["a_b", "c"]


units = st.integers(0, 2) | st.integers(0, 2**31 - 1)


@given(
    st.lists(st.lists(units, min_size=1, max_size=6).map(tuple), unique=True), st.lists(units, max_size=30)
)
def test_after_each_unit_the_automaton_has_the_ngrams_that_end_there(
    paths: list[tuple[int, ...]], content: list[int]
) -> None:
    keys, links = build_automaton(paths)
    numbers = {path: i for i, path in enumerate(paths, start=1)}
    for path in [*paths, tuple(content)]:
        node = ROOT
        for end, unit in enumerate(path, start=1):
            node = np.uint64(next_node(keys, links, node, np.uint64(unit)))
            found, at = [], int(node)
            while at != ROOT:
                found.append(int(links[at, NGRAM]))
                at = int(links[at, SUFFIX])
            expected = [numbers.get(path[begin:end], 0) for begin in range(end)]
            assert [number for number in found if number] == [number for number in expected if number]


@pytest.mark.parametrize("paths", [[[1, 2], [1, 2]], [[]], [[1], []]])
def test_a_repeated_or_empty_path_is_refused(paths: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="repeated or empty"):
        build_automaton(paths)
