"""UTF-8 bytes → token ids: cut at white space and marks and looked up in one compiled pass, the interpreter's
lock released.

`server/models/tokenizer.py` has prepared the text so that what is left of `basic_english` concerns one ASCII
byte at a time.

The vocabulary is a hash table with open addressing: a token's hash says where in `slots` int32[places, 4] to
look for it, and where another token is, the next place is looked at. Bytes are compared, not hashes alone, so
that an answer is exact.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.jit import compiled

END = b"\xff"
"""Stands behind each text; no UTF-8 has this byte."""

_MARKS = b".,()!?'"  # a token each
_SPACES = b";:" + bytes(byte for byte in range(128) if chr(byte).isspace())

_LETTER, _SPACE, _MARK, _TEXT_END = range(4)
_KINDS = np.full(256, _LETTER, dtype=np.uint8)
_KINDS[list(_SPACES)] = _SPACE
_KINDS[list(_MARKS)] = _MARK
_KINDS[list(END)] = _TEXT_END

# FNV-1a; 0xCBF29CE484222325 as a signed number, for mixed signs are floats to numba
_BASIS = -3750763034362895579
_PRIME = 0x100000001B3

_HASH, _BEGIN, _LENGTH, _ID = range(
    4
)  # columns of a slot: the upper half of the hash, the token's place in the vocabulary's bytes, its id
_FREE = -1  # the length in a slot without a token; its id is the unknown one


class TokenTable:
    """A vocabulary to look up texts in, by as many threads as call. Tokens outside it are `unknown`; `pad`
    fills a text up to `min_length` tokens.
    """

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        tokens = [token.encode("utf-8", "surrogatepass") for token in vocabulary]
        self._bytes = _as_array(b"".join(tokens))
        # a power of two, so that a mask makes a place of a hash; at most half are taken, so that a search
        # soon ends
        self._slots = np.full((1 << (2 * len(tokens)).bit_length(), 4), _FREE, dtype=np.int32)
        self._slots[:, _ID] = unknown
        _fill(
            self._slots,
            self._bytes,
            np.array([len(token) for token in tokens], np.int32),
            np.array([*vocabulary.values()], np.int32),
        )
        self._pad, self._min_length = pad, min_length
        # the kernel is compiled, or its machine code loaded, at the first call of all
        self.look_up(END, 1)

    def look_up(self, data: bytes, texts: int) -> tuple[Ids, list[int]]:
        """`texts` texts with `END` behind each → (their ids int32[tokens], one text after another, and for
        each the place where its ids end).
        """
        # a byte makes at most one token
        ids = np.empty(len(data) + texts * self._min_length, dtype=np.int32)
        ends = np.empty(texts, dtype=np.int64)
        count = _look_up(_as_array(data), self._slots, self._bytes, self._pad, self._min_length, ids, ends)
        # most of that room is not needed; the copy does not keep it
        return ids[:count].copy(), ends.tolist()


def _as_array(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


@compiled
def _slot_of(slots, known, data, begin, end, hashed):  # type: ignore[no-untyped-def]  # numba infers the types
    """The place of the token data[begin:end] in `slots`, or the free one where it belongs; `known`
    uint8[bytes] are the vocabulary's tokens in a row.

    A slot is indexed, never taken out as an array of its own: counting references to it would take twice the
    time of all the rest.
    """
    mask = len(slots) - 1
    place = hashed & mask
    upper = np.int32(hashed >> 32)
    while True:
        if slots[place, _LENGTH] == _FREE:
            return place
        if slots[place, _HASH] == upper and slots[place, _LENGTH] == end - begin:
            at, to = begin, slots[place, _BEGIN]
            while at < end and data[at] == known[to]:
                at += 1
                to += 1
            if at == end:
                return place
        place = (place + 1) & mask


@compiled
def _fill(slots, known, lengths, ids):  # type: ignore[no-untyped-def]  # numba infers the types
    """Give the tokens in `known` their slots; lengths int32[tokens] in bytes, ids int32[tokens]."""
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
    """data uint8[bytes] → ids int32[…] and ends int64[texts], which it fills, and the number of ids."""
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
