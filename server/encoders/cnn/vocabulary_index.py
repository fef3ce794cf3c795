"""UTF-8 bytes → token ids: splits and looks up tokens in one compiled pass that releases the GIL.

`basic_english.py` prepares the text; what remains of `basic_english` concerns single ASCII bytes.

The vocabulary is a hash table with open addressing and linear probing: the hash of a token is its first index
in `slots` int32[slots, 4]; if another token is there, the next slot is tried. Bytes are compared, not only
hashes, so the result is exact.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.jit import compiled

END = b"\xff"
"""Terminates each text; UTF-8 never contains this byte."""

_MARKS = b".,()!?'"  # each is a token
_SPACES = b";:" + bytes(byte for byte in range(128) if chr(byte).isspace())

_LETTER, _SPACE, _MARK, _TEXT_END = range(4)
_KINDS = np.full(256, _LETTER, dtype=np.uint8)
_KINDS[list(_SPACES)] = _SPACE
_KINDS[list(_MARKS)] = _MARK
_KINDS[list(END)] = _TEXT_END

# FNV-1a; the basis 0xCBF29CE484222325 is signed, because numba turns mixed signs into floats
_BASIS = -3750763034362895579
_PRIME = 0x100000001B3

# columns of a slot: upper half of the hash, offset and length in the bytes of the vocabulary, id
_HASH, _BEGIN, _LENGTH, _ID = range(4)
_FREE = -1  # length in a free slot; its id is the unknown one


class TokenTable:
    """Hash table of a vocabulary; any number of threads can use it. Other tokens get the id `unknown`; short
    texts get the id `pad` up to `min_length` tokens.
    """

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        tokens = [token.encode("utf-8", "surrogatepass") for token in vocabulary]
        self._bytes = _as_array(b"".join(tokens))
        # a power of two, so that a mask turns a hash into an index; at most half full, so that probes are few
        self._slots = np.full((1 << (2 * len(tokens)).bit_length(), 4), _FREE, dtype=np.int32)
        self._slots[:, _ID] = unknown
        _fill(
            self._slots,
            self._bytes,
            np.array([len(token) for token in tokens], np.int32),
            np.array([*vocabulary.values()], np.int32),
        )
        self._pad, self._min_length = pad, min_length
        # the first call compiles the kernel or loads its machine code
        self.look_up(END, 1)

    def look_up(self, data: bytes, texts: int) -> tuple[Ids, list[int]]:
        """`data` is `texts` texts, each terminated by `END` → (ids int32[tokens] of all texts, the end of
        each text in them).
        """
        # at most one token per byte
        ids = np.empty(len(data) + texts * self._min_length, dtype=np.int32)
        ends = np.empty(texts, dtype=np.int64)
        count = _look_up(_as_array(data), self._slots, self._bytes, self._pad, self._min_length, ids, ends)
        # a copy, because most of the allocated size is unused
        return ids[:count].copy(), ends.tolist()


def _as_array(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


@compiled
def _slot_of(slots, known, data, begin, end, hashed):  # type: ignore[no-untyped-def]  # numba infers the types
    """Index in `slots` of the token data[begin:end], or of the free slot for it. `known` uint8[bytes] holds
    the tokens of the vocabulary, concatenated.

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
    """Put the tokens in `known` into `slots`; lengths int32[tokens] in bytes, ids int32[tokens]."""
    begin = 0
    for token in range(len(lengths)):
        end = begin + lengths[token]
        hashed = _BASIS
        for i in range(begin, end):
            hashed = (hashed ^ known[i]) * _PRIME
        slot = _slot_of(slots, known, known, begin, end, hashed)
        slots[slot, _HASH] = np.int32(hashed >> 32)
        slots[slot, _BEGIN] = begin
        slots[slot, _LENGTH] = lengths[token]
        slots[slot, _ID] = ids[token]
        begin = end


@compiled
def _look_up(data, slots, known, pad, min_length, ids, ends):  # type: ignore[no-untyped-def]  # numba infers the types
    """Fill ids int32[…] and ends int64[texts] from data uint8[bytes]; return the number of ids."""
    count = first = text = begin = 0
    hashed = _BASIS
    for i in range(len(data)):
        byte = data[i]
        kind = _KINDS[byte]
        if kind == _LETTER:
            hashed = (hashed ^ byte) * _PRIME
            continue
        if begin < i:
            ids[count] = slots[_slot_of(slots, known, data, begin, i, hashed), _ID]
            count += 1
        begin = i + 1
        hashed = _BASIS
        if kind == _MARK:
            ids[count] = slots[_slot_of(slots, known, data, i, i + 1, (_BASIS ^ byte) * _PRIME), _ID]
            count += 1
        elif kind == _TEXT_END:
            while count < first + min_length:
                ids[count] = pad
                count += 1
            ends[text] = first = count
            text += 1
    return count
