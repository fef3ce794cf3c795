"""Finds all n-grams of a text in one pass, compiled by numba: the automaton of Aho and Corasick (1975).

Its nodes are the beginnings of n-grams, as paths of units: code points or numbers of words. After each unit
of a text it is at the longest node that ends there. The n-grams that end there are that node and those on its
chain of suffixes, each the longest node that ends the one before.

A node is a slot of a hash table, found by the node before and the unit. The table compares whole keys, so the
result is exact.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.jit import compiled

# Numbers are unsigned: for a signed index numba checks whether it counts from the end of the array, which
# takes a tenth of the time. Each is a np.uint64, because numba turns mixed signs into floats.
ROOT = np.uint64(0)
"""The node of no units."""

_FREE, _NO_KEY = np.uint64(2**64 - 1), np.uint64(2**64 - 2)
_ONE, _HALF = np.uint64(1), np.uint64(32)
_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ divided by the golden ratio, odd: Knuth (1998), "The Art of Computer Programming" 3, §6.4."""

# columns of a node's links: its longest suffix, and the number of its n-gram or 0
SUFFIX, NGRAM = range(2)

Keys = npt.NDArray[np.uint64]
"""uint64[slots]: node before × 2³² + unit; _FREE in a free slot, _NO_KEY in that of ROOT."""
Links = npt.NDArray[np.uint32]
"""uint32[slots, 2]"""


def build_automaton(paths: Sequence[Sequence[int]]) -> tuple[Keys, Links]:
    """The automaton of n-grams, paths of units 0 ≤ unit < 2³¹; n-gram i has number i + 1. Takes time with the
    cube of their lengths. Raises ValueError if a path is repeated or empty.
    """
    ends = np.cumsum([0, *map(len, paths)], dtype=np.int64)
    units = np.fromiter((unit for path in paths for unit in path), dtype=np.uint64, count=int(ends[-1]))
    keys = _empty(len(units))
    _insert(units, ends, keys)  # counts the nodes, which paths share
    keys = _empty(int((keys != _FREE).sum()))
    nodes = _insert(units, ends, keys)
    if len(set(nodes.tolist()) - {ROOT}) < len(paths):
        raise ValueError("an n-gram is repeated or empty")
    links = np.zeros((len(keys), 2), dtype=np.uint32)
    links[nodes, NGRAM] = np.arange(1, len(paths) + 1)
    _link_suffixes(units, ends, keys, links)
    return keys, links


def _empty(nodes: int) -> Keys:
    # a power of two, so that a mask turns a hash into an index; at most half full, so that probes are few
    keys = np.full(1 << max(4, (2 * nodes).bit_length()), _FREE, dtype=np.uint64)
    keys[ROOT] = _NO_KEY
    return keys


@compiled
def next_node(keys, links, node, unit):  # type: ignore[no-untyped-def]  # numba infers the types
    """The node after `unit`."""
    while True:
        slot = _slot_of(keys, node, unit)
        if keys[slot] != _FREE:
            return slot
        if node == ROOT:
            return ROOT
        node = np.uint64(links[node, SUFFIX])


@compiled
def _slot_of(keys, node, unit):  # type: ignore[no-untyped-def]
    """The slot of the node `unit` after `node`, or the free slot for it."""
    mask = np.uint64(len(keys) - 1)
    key = (node << _HALF) | unit
    slot = ((key * _MIXER) >> _HALF) & mask
    while keys[slot] != _FREE and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@compiled
def _insert(units, ends, keys):  # type: ignore[no-untyped-def]
    """Insert the paths units[ends[i]:ends[i + 1]] into `keys`; returns the last node of each path."""
    last = np.empty(len(ends) - 1, np.uint64)
    for path in range(len(last)):
        node = ROOT
        for at in range(ends[path], ends[path + 1]):
            slot = _slot_of(keys, node, units[at])
            keys[slot] = (node << _HALF) | units[at]
            node = slot
        last[path] = node
    return last


@compiled
def _link_suffixes(units, ends, keys, links):  # type: ignore[no-untyped-def]
    """Set the suffix of each node on the paths units[ends[i]:ends[i + 1]]."""
    for path in range(len(ends) - 1):
        node = ROOT
        for at in range(ends[path], ends[path + 1]):
            node = _slot_of(keys, node, units[at])
            links[node, SUFFIX] = ROOT
            for begin in range(ends[path] + 1, at + 1):
                suffix = ROOT
                for i in range(begin, at + 1):
                    suffix = _slot_of(keys, suffix, units[i])
                    if keys[suffix] == _FREE:
                        break
                if keys[suffix] != _FREE:
                    links[node, SUFFIX] = suffix
                    break
