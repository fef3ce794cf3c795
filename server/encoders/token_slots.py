"""A hash table from tokens to ids, compiled by numba, with open addressing and linear probing.

A token is a sequence of bytes or code points. The low bits of its hash are the first index that is tried in
`slots` int32[slots, 4]; if another token is there, the next slot is tried. Tokens are compared, not only
hashes, so the result is exact.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.jit import compiled

# FNV-1a; the basis 0xCBF29CE484222325 is signed, because numba turns mixed signs into floats
BASIS = -3750763034362895579
PRIME = 0x100000001B3

# columns of a slot: upper half of the hash, offset and length in `known`, id
_HASH, _BEGIN, _LENGTH, ID = range(4)
_FREE = -1  # length in a free slot; its id is the unknown one


def build_slots(
    known: npt.NDArray[np.unsignedinteger], lengths: Sequence[int], ids: Sequence[int], unknown: int
) -> Ids:
    """The slots int32[slots, 4] of the tokens that `known` holds, one after another."""
    # a power of two, so that a mask turns a hash into an index; at most half full, so that probes are few
    slots = np.full((1 << (2 * len(lengths)).bit_length(), 4), _FREE, dtype=np.int32)
    slots[:, ID] = unknown
    _fill(slots, known, np.array(lengths, np.int32), np.array(ids, np.int32))
    return slots


@compiled
def slot_of(slots, known, data, begin, end, hashed):  # type: ignore[no-untyped-def]  # numba infers the types
    """Index in `slots` of the token data[begin:end], or of the free slot for it. `known` holds the tokens of
    the table, concatenated; `hashed` is BASIS, then for each element `(hashed ^ element) * PRIME`.

    Columns are read as slots[index, column], never from a row view: its reference counting would take twice
    the time of everything else.
    """
    mask = len(slots) - 1
    index = hashed & mask
    upper = np.int32(hashed >> 32)
    while True:
        if slots[index, _LENGTH] == _FREE:
            return index
        if slots[index, _HASH] == upper and slots[index, _LENGTH] == end - begin:
            at, to = begin, slots[index, _BEGIN]
            while at < end and data[at] == known[to]:
                at += 1
                to += 1
            if at == end:
                return index
        index = (index + 1) & mask


@compiled
def _fill(slots, known, lengths, ids):  # type: ignore[no-untyped-def]  # numba infers the types
    """Put the tokens in `known` into `slots`; lengths int32[tokens], ids int32[tokens]."""
    begin = 0
    for token in range(len(lengths)):
        end = begin + lengths[token]
        hashed = BASIS
        for i in range(begin, end):
            hashed = (hashed ^ known[i]) * PRIME
        slot = slot_of(slots, known, known, begin, end, hashed)
        slots[slot, _HASH] = np.int32(hashed >> 32)
        slots[slot, _BEGIN] = begin
        slots[slot, _LENGTH] = lengths[token]
        slots[slot, ID] = ids[token]
        begin = end
