"""UTF-8 bytes → token ids: splits and looks up tokens in one compiled pass that releases the GIL.

`basic_english.py` prepares the text; what remains of `basic_english` concerns single ASCII bytes.

The vocabulary is a hash table (`server/encoders/token_slots.py`).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from server.arrays import Ids
from server.encoders.token_slots import BASIS, ID, PRIME, build_slots, slot_of
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


class TokenTable:
    """Hash table of a vocabulary; any number of threads can use it. Other tokens get the id `unknown`; short
    texts get the id `pad` up to `min_length` tokens.
    """

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: int, pad: int, min_length: int) -> None:
        tokens = [token.encode("utf-8", "surrogatepass") for token in vocabulary]
        self._bytes = _as_array(b"".join(tokens))
        self._slots = build_slots(self._bytes, list(map(len, tokens)), list(vocabulary.values()), unknown)
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
def _look_up(data, slots, known, pad, min_length, ids, ends):  # type: ignore[no-untyped-def]  # numba infers the types
    """Fill ids int32[…] and ends int64[texts] from data uint8[bytes]; return the number of ids."""
    count = first = text = begin = 0
    hashed = BASIS
    for i in range(len(data)):
        byte = data[i]
        kind = _KINDS[byte]
        if kind == _LETTER:
            hashed = (hashed ^ byte) * PRIME
            continue
        if begin < i:
            ids[count] = slots[slot_of(slots, known, data, begin, i, hashed), ID]
            count += 1
        begin = i + 1
        hashed = BASIS
        if kind == _MARK:
            ids[count] = slots[slot_of(slots, known, data, i, i + 1, (BASIS ^ byte) * PRIME), ID]
            count += 1
        elif kind == _TEXT_END:
            while count < first + min_length:
                ids[count] = pad
                count += 1
            ends[text] = first = count
            text += 1
    return count
