"""Texts longer than a transformer can read: cut, or read in overlapping windows.

A row has the ids of a text between special tokens: prefix, content, suffix. Every window has the same special
tokens.
"""

from collections.abc import Sequence

import numpy as np

from server.arrays import Ids

OVERLAP = 4
"""Windows share one in so many of their tokens with the next one, so that a phrase at an edge is whole in one
of the two.
"""


def cut(row: Ids, longest: int, prefix: Sequence[int], suffix: Sequence[int], *, left: bool = False) -> Ids:
    """The row int32[tokens] with as much of its content as fits into `longest` tokens: its beginning, or with
    `left` its end.
    """
    if len(row) <= longest:
        return row
    content, room = _content(row, prefix, suffix), longest - len(prefix) - len(suffix)
    return _with_special_tokens(content[-room:] if left else content[:room], prefix, suffix)


def windows(row: Ids, longest: int, prefix: Sequence[int], suffix: Sequence[int]) -> list[Ids]:
    """The row int32[tokens] in windows of at most `longest` tokens that overlap."""
    if len(row) <= longest:
        return [row]
    content, room = _content(row, prefix, suffix), longest - len(prefix) - len(suffix)
    overlap = room // OVERLAP
    return [
        _with_special_tokens(content[begin : begin + room], prefix, suffix)
        for begin in range(0, len(content) - overlap, room - overlap)
    ]


def _content(row: Ids, prefix: Sequence[int], suffix: Sequence[int]) -> Ids:
    return row[len(prefix) : len(row) - len(suffix)]


def _with_special_tokens(content: Ids, prefix: Sequence[int], suffix: Sequence[int]) -> Ids:
    return np.concatenate([np.array(prefix, np.int32), content, np.array(suffix, np.int32)])
