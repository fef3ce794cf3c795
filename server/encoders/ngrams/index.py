"""Text → ids of its n-grams, without creating the n-grams, compiled by numba.

A text becomes units: the numbers of its words, or its code points with one space for every gap. An automaton
finds the n-grams of units.
"""

import re
import sys
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.encoders.ngrams.analyzer import Unit, normalized, words_of
from server.encoders.ngrams.automaton import NGRAM, ROOT, SUFFIX, build_automaton, next_node
from server.encoders.token_slots import BASIS, ID, PRIME, build_slots, slot_of
from server.encoders.unicode_pieces import utf_32
from server.jit import compiled

COUNT_BITS = 7
"""An id in a row is n-gram × 128 + occurrences; more than 127 count as 127."""
MAX_COUNT = 2**COUNT_BITS - 1
MAX_NGRAMS = 2 ** (31 - COUNT_BITS) - 1

_SPACE = np.uint64(32)
_NO_SEPARATOR = np.uint64(2**32)
_OTHER, _WORD, _GAP = range(3)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of each code point, as this Python's Unicode knows it; takes 0.1 s."""
    kinds = np.full(sys.maxunicode + 1, _OTHER, dtype=np.uint8)
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    for pattern, kind in ((r"\w+", _WORD), (r"\s+", _GAP)):
        for found in re.finditer(pattern, everything):
            kinds[slice(*found.span())] = kind
    return kinds


class NgramIndex:
    """Finds n-grams in texts; any number of threads can use it. The first n-gram has number 1."""

    long_text = 2_000
    """As in `TextTokenizer`: 6 ms at worst, for ligatures."""

    def __init__(self, ngrams: Sequence[str], unit: Unit, shortest: int, longest: int) -> None:
        """Raises ValueError for more than MAX_NGRAMS, or an n-gram that is repeated, or that is not of
        `shortest` to `longest` units.
        """
        if len(ngrams) > MAX_NGRAMS:
            raise ValueError(f"{len(ngrams)} n-grams, expected at most {MAX_NGRAMS}")
        paths: list[list[int]]
        if unit == "words":
            split = [words_of(ngram) for ngram in ngrams]
            number = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(split)))}
            paths = [[number[word] for word in words] for words in split]
            known = _points("".join(number))
            slots = build_slots(known, list(map(len, number)), list(number.values()), unknown=len(number))
        else:
            paths = [list(map(ord, ngram)) for ngram in ngrams]
        for ngram, path in zip(ngrams, paths, strict=True):
            if not shortest <= len(path) <= longest:
                raise ValueError(f"{ngram!r} has {len(path)} {unit}, expected {shortest} to {longest}")
        keys, links = build_automaton(paths)
        sizes = len(ngrams), longest - shortest + 1
        self._find: Any
        self._tables: tuple[Any, ...]
        if unit == "words":
            self._find, self._tables = _find_words, (_kinds(), known, slots, keys, links, *sizes)
        else:
            space = np.uint64(next_node(keys, links, ROOT, _SPACE))
            self._find, self._tables = _find_characters, (_kinds(), keys, links, space, *sizes)
        # the first call compiles the kernels or loads their machine code from the cache
        self.encode("")

    def encode(self, text: str) -> Ids:
        """int32[different n-grams], each n-gram × 128 + occurrences, by their first ends, the longer first;
        [0] if there is none.
        """
        points = _points(normalized(text))
        ids: Ids = self._find(points, np.array([len(points)]), *self._tables)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """The same per text, as views of one array."""
        prepared = [normalized(text) for text in texts]
        ends = np.cumsum(np.fromiter(map(len, prepared), dtype=np.int64, count=len(prepared)))
        ids = self._find(_points("".join(prepared)), ends, *self._tables)
        return [ids[begin:end] for begin, end in pairwise((0, *ends.tolist()))]


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(utf_32(text), dtype=np.uint32)


@compiled
def _find_words(points, ends, kinds, known, slots, keys, links, ngrams, ngrams_per_unit):  # type: ignore[no-untyped-def]  # numba infers the types
    """points uint32[points] of texts, which end at ends int64[texts] → int32[…], the rows of all texts;
    `ends` becomes their ends.
    """
    units = np.empty(len(points), np.uint64)
    counts = np.zeros(ngrams + 1, np.uint8)
    ids = np.empty(len(points) + 16, np.int32)
    count = first = 0
    for text in range(len(ends)):
        length = _number_words(points[first : ends[text]], kinds, known, slots, units)
        first = ends[text]
        ids = _with_space(ids, count, length * ngrams_per_unit + 1)
        count = _count_ngrams(units[:length], keys, links, _NO_SEPARATOR, ROOT, counts, ids, count)
        ends[text] = count
    return ids[:count].copy()


@compiled
def _find_characters(points, ends, kinds, keys, links, space, ngrams, ngrams_per_unit):  # type: ignore[no-untyped-def]
    """The same for code points; `space` is the node after a space."""
    units = np.empty(len(points) + 2, np.uint64)
    counts = np.zeros(ngrams + 1, np.uint8)
    ids = np.empty(len(points) + 16, np.int32)
    count = first = 0
    for text in range(len(ends)):
        length = _single_spaces(points[first : ends[text]], kinds, units)
        first = ends[text]
        ids = _with_space(ids, count, length * ngrams_per_unit + 1)
        count = _count_ngrams(units[:length], keys, links, _SPACE, space, counts, ids, count)
        ends[text] = count
    return ids[:count].copy()


@compiled
def _number_words(text, kinds, known, slots, units):  # type: ignore[no-untyped-def]
    """text uint32[points] → units uint64[…]: the numbers of its words; returns how many."""
    count = begin = 0
    hashed = BASIS
    for at in range(len(text)):
        if kinds[text[at]] == _WORD:
            hashed = (hashed ^ text[at]) * PRIME
            continue
        if begin < at:
            units[count] = slots[slot_of(slots, known, text, begin, at, hashed), ID]
            count += 1
        begin = at + 1
        hashed = BASIS
    if begin < len(text):
        units[count] = slots[slot_of(slots, known, text, begin, len(text), hashed), ID]
        count += 1
    return count


@compiled
def _single_spaces(text, kinds, units):  # type: ignore[no-untyped-def]
    """text uint32[points] → units uint64[…]: its parts with a space before, between and after them; returns
    their number.
    """
    units[0] = _SPACE
    count = 1
    for point in text:
        if kinds[point] != _GAP:
            units[count] = point
            count += 1
        elif units[count - 1] != _SPACE:
            units[count] = _SPACE
            count += 1
    if units[count - 1] != _SPACE:
        units[count] = _SPACE
        count += 1
    return count


@compiled
def _count_ngrams(units, keys, links, separator, after_separator, counts, ids, first):  # type: ignore[no-untyped-def]
    """Write the row of units uint64[…] to ids[first:]; returns its end. After the unit `separator` the
    automaton goes on from the node `after_separator`. `counts` uint8[n-grams + 1] is zero before and after.
    """
    count = first
    node = ROOT
    for unit in units:
        node = next_node(keys, links, node, unit)
        at = node
        while at != ROOT:
            ngram = links[at, NGRAM]
            if ngram:
                # no branch: whether an n-gram is new is hard to predict
                ids[count] = ngram
                count += counts[ngram] == 0
                counts[ngram] = min(counts[ngram] + 1, MAX_COUNT)
            at = np.uint64(links[at, SUFFIX])
        if unit == separator:
            node = after_separator
    for at in range(first, count):
        ngram = ids[at]
        ids[at] = ngram << COUNT_BITS | counts[ngram]
        counts[ngram] = 0
    if count == first:
        ids[count] = 0
        count += 1
    return count


@compiled
def _with_space(ids, used, more):  # type: ignore[no-untyped-def]
    """`ids`, or a larger copy of its first `used` elements, with space for `more`."""
    if len(ids) >= used + more:
        return ids
    larger = np.empty(2 * (used + more), np.int32)
    larger[:used] = ids[:used]
    return larger
