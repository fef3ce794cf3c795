"""Text → ids of its n-grams, without creating the n-grams, compiled by numba.

A text becomes units: the numbers of its words, or its code points with one space for every gap. An n-gram is
a path of units in a trie, which ends at the node of its number.
"""

import re
import sys
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.encoders.ngrams.analyzer import Unit, normalized, words_of
from server.encoders.ngrams.trie import MISSING, ROOT, Edges, build_trie, next_node
from server.jit import compiled

COUNT_BITS = 7
"""An id in a row is n-gram × 128 + occurrences; more than 127 count as 127."""
MAX_COUNT = 2**COUNT_BITS - 1
MAX_NGRAMS = 2 ** (31 - COUNT_BITS) - 1

_SPACE = 32
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

    long_text = 100_000

    def __init__(self, ngrams: Sequence[str], unit: Unit, shortest: int, longest: int) -> None:
        """Raises ValueError for more than MAX_NGRAMS, or a repeated n-gram."""
        if len(ngrams) > MAX_NGRAMS:
            raise ValueError(f"{len(ngrams)} n-grams, expected at most {MAX_NGRAMS}")
        self._ngrams, self._shortest, self._longest = len(ngrams), shortest, longest
        self._words: Edges = build_trie([])
        self._trie: Edges
        if unit == "words":
            words = list(dict.fromkeys(word for ngram in ngrams for word in words_of(ngram)))
            self._words = build_trie([list(map(ord, word)) for word in words])
            number = {word: i for i, word in enumerate(words, start=1)}
            self._trie = build_trie([[number[word] for word in words_of(ngram)] for ngram in ngrams])
        else:
            self._trie = build_trie([list(map(ord, ngram)) for ngram in ngrams])
        self._by_words = unit == "words"
        # the first call compiles the kernels or loads their machine code from the cache
        self.encode("")

    def encode(self, text: str) -> Ids:
        """int32[different n-grams], each n-gram × 128 + occurrences, by first occurrence; [0] if there is
        none.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """The same per text, as views of one array."""
        prepared = [normalized(text) for text in texts]
        ids, ends = _look_up(
            np.frombuffer("".join(prepared).encode("utf-32-le", "surrogatepass"), dtype=np.uint32),
            np.fromiter(accumulate(map(len, prepared)), dtype=np.int64, count=len(prepared)),
            _kinds(),
            self._words,
            self._trie,
            self._ngrams,
            self._by_words,
            self._shortest,
            self._longest,
        )
        return [ids[begin:end] for begin, end in pairwise((0, *ends.tolist()))]


@compiled
def _look_up(texts, text_ends, kinds, words, trie, ngrams, by_words, shortest, longest):  # type: ignore[no-untyped-def]  # numba infers the types
    """texts uint32[points], which end at text_ends int64[texts] → (ids int32[…] of all texts, the end of each
    text in them int64[texts]).
    """
    row_ends = np.empty(len(text_ends), np.int64)
    ids = np.empty(len(texts) + 16, np.int32)
    count = first = 0
    for row in range(len(text_ends)):
        text = texts[first : text_ends[row]]
        first = text_ends[row]
        buffer = np.empty(len(text) + 2, np.int64)
        if by_words:
            length = _number_words(text, kinds, words, buffer)
        else:
            length = _single_spaces(text, kinds, buffer)
        units = buffer[:length]
        most = length * (longest - shortest + 1) + 1
        if len(ids) < count + most:
            grown = np.empty(2 * (count + most), np.int32)
            grown[:count] = ids[:count]
            ids = grown
        size = 4
        while size < 2 * most:
            size *= 2
        found_at = np.zeros(size, np.int32)
        begin = count
        if by_words:
            count = _count_words(units, trie, ngrams, shortest, longest, ids, begin, found_at)
        else:
            count = _count_characters(units, trie, ngrams, shortest, longest, ids, begin, found_at)
        if count == begin:
            ids[count] = 0
            count += 1
        row_ends[row] = count
    return ids[:count].copy(), row_ends


@compiled
def _single_spaces(text, kinds, units):  # type: ignore[no-untyped-def]
    """text uint32[points] → units int64[…]: its parts with a space before, between and after them; returns
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
def _number_words(text, kinds, words, units):  # type: ignore[no-untyped-def]
    """text uint32[points] → units int64[…]: the numbers of its words, MISSING for unknown ones; returns how
    many. Numbers of nodes within words may come out, too; no n-gram has them.
    """
    count = 0
    node = ROOT
    within = False
    for point in text:
        if kinds[point] == _WORD:
            within = True
            if node != MISSING:
                node = next_node(words, node, np.int64(point))
        elif within:
            units[count] = node
            count += 1
            node = ROOT
            within = False
    if within:
        units[count] = node
        count += 1
    return count


@compiled
def _count_words(units, trie, ngrams, shortest, longest, ids, first, found_at):  # type: ignore[no-untyped-def]
    """units int64[words] → a row of ids from ids[first] on; returns its end. `found_at` int32 is zero."""
    count = first
    for begin in range(len(units)):
        node = ROOT
        for at in range(begin, min(begin + longest, len(units))):
            if units[at] == MISSING:
                break
            node = next_node(trie, node, units[at])
            if node == MISSING:
                break
            if at - begin + 1 >= shortest and node <= ngrams:
                count = _count(node, ids, first, count, found_at)
    return count


@compiled
def _count_characters(units, trie, ngrams, shortest, longest, ids, first, found_at):  # type: ignore[no-untyped-def]
    """The same for code points; an n-gram ends with the first space after its beginning."""
    count = first
    for begin in range(len(units)):
        node = ROOT
        for at in range(begin, min(begin + longest, len(units))):
            node = next_node(trie, node, units[at])
            if node == MISSING:
                break
            if at - begin + 1 >= shortest and node <= ngrams:
                count = _count(node, ids, first, count, found_at)
            if units[at] == _SPACE and at > begin:
                break
    return count


@compiled
def _count(ngram, ids, first, count, found_at):  # type: ignore[no-untyped-def]
    """Count one occurrence of `ngram` in the row ids[first:count]; returns the row's new end. `found_at`
    int32 is a hash table: where in the row an n-gram is, from 1.
    """
    mask = len(found_at) - 1
    slot = (ngram * 2654435761) & mask
    while found_at[slot]:
        at = first + found_at[slot] - 1
        if ids[at] >> COUNT_BITS == ngram:
            if ids[at] & MAX_COUNT < MAX_COUNT:
                ids[at] += 1
            return count
        slot = (slot + 1) & mask
    found_at[slot] = count - first + 1
    ids[count] = (ngram << COUNT_BITS) | 1
    return count + 1
