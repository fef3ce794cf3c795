"""A trie in a hash table: all edges (node, unit) → next node are in one array, compiled by numba.

A unit is a code point or the number of a word. The table compares whole keys, not hashes of them, so the
result is exact. A step costs one look-up, and an unknown beginning ends a search.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.jit import compiled

ROOT = 0
MISSING = -1

_MIXER = -7046029254386353131
"""2⁶⁴ divided by the golden ratio, odd, signed: Knuth (1998), "The Art of Computer Programming" 3, §6.4."""

# columns of a slot
_KEY, _NODE = range(2)

Edges = npt.NDArray[np.int64]
"""int64[slots, 2]: node × 2³² + unit, and the next node or MISSING in a free slot."""


def build_trie(paths: Sequence[Sequence[int]]) -> Edges:
    """The edges of the trie in which path i, of units ≥ 0, ends at node i + 1; other nodes have larger
    numbers. Raises ValueError if a path is repeated or empty.
    """
    ends = np.cumsum([0, *map(len, paths)], dtype=np.int64)
    units = np.fromiter((unit for path in paths for unit in path), dtype=np.int64, count=int(ends[-1]))
    # at most half full, so that probes are few
    edges = _empty(2 * len(units))
    nodes = _insert(units, ends, edges)
    if len(set(nodes.tolist()) - {ROOT}) < len(paths):
        raise ValueError("an n-gram is repeated or empty")
    count = int(edges[:, _NODE].max(initial=0)) + 1
    renumbered = np.full(count, MISSING, dtype=np.int64)
    renumbered[ROOT] = ROOT
    renumbered[nodes] = np.arange(1, len(paths) + 1)
    others = renumbered == MISSING
    renumbered[others] = np.arange(len(paths) + 1, len(paths) + 1 + others.sum())
    compact: Edges = _renumber(edges, renumbered, _empty(2 * count))
    return compact


def _empty(least: int) -> Edges:
    # a power of two, so that a mask turns a hash into an index
    return np.full((1 << max(4, least.bit_length()), 2), MISSING, dtype=np.int64)


@compiled
def next_node(edges, node, unit):  # type: ignore[no-untyped-def]  # numba infers the types
    """The node after `node` by `unit`, or MISSING."""
    key = (node << 32) | unit
    return edges[_slot_of(edges, key), _NODE]


@compiled
def _slot_of(edges, key):  # type: ignore[no-untyped-def]
    """The index of the slot of `key`, or of the free slot for it."""
    mask = len(edges) - 1
    slot = ((key * _MIXER) >> 32) & mask
    while edges[slot, _NODE] != MISSING and edges[slot, _KEY] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def _insert(units, ends, edges):  # type: ignore[no-untyped-def]
    """Insert the paths units[ends[i]:ends[i + 1]] into `edges`; returns the last node of each path."""
    last = np.empty(len(ends) - 1, np.int64)
    count = 0
    for path in range(len(last)):
        node = 0
        for at in range(ends[path], ends[path + 1]):
            slot = _slot_of(edges, (node << 32) | units[at])
            if edges[slot, _NODE] == MISSING:
                count += 1
                edges[slot, _KEY] = (node << 32) | units[at]
                edges[slot, _NODE] = count
            node = edges[slot, _NODE]
        last[path] = node
    return last


@compiled
def _renumber(edges, numbers, renumbered):  # type: ignore[no-untyped-def]
    for slot in range(len(edges)):
        if edges[slot, _NODE] != MISSING:
            key = edges[slot, _KEY]
            key = (numbers[key >> 32] << 32) | (key & 0xFFFFFFFF)
            to = _slot_of(renumbered, key)
            renumbered[to, _KEY] = key
            renumbered[to, _NODE] = numbers[edges[slot, _NODE]]
    return renumbered
