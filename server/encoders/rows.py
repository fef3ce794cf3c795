"""A row of the queue: the token ids of all encoders of a bundle for one text.

    one encoder:      its ids
    several of them:  the numbers of ids of all encoders but the last, then the ids of each

A row is one int32 array, so the queue, the batches and the networks need not know about encoders. The network
in model.onnx takes a row apart as `bounds` does.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from server.arrays import Ids
from server.encoders.base import Encoder

MAX_IDS = 8_000_000
"""Ids in all rows of a text for several encoders. Each window has the ids of the encoders without windows
again, so a text of a million characters would be 4 GB. This is enough for the windows of some 90,000
characters.
"""


def pack(parts: Sequence[Ids]) -> Ids:
    """The ids int32[tokens] of each encoder → a row int32[header + all tokens]."""
    if len(parts) == 1:
        return parts[0]
    header = np.array([len(part) for part in parts[:-1]], dtype=np.int32)
    return np.concatenate([header, *parts])


def unpack(row: Ids, encoders: int) -> list[Ids]:
    """The ids of each encoder, as views of the row."""
    edges = bounds(row[None], np.array([len(row)], dtype=np.int32), encoders)
    return [row[begin[0] : end[0]] for begin, end in edges]


def bounds(ids: Ids, lengths: Ids, encoders: int) -> list[tuple[Ids, Ids]]:
    """ids int32[rows, length], lengths int32[rows] → for each encoder, where its ids begin and end in each
    row: int32[rows] each.
    """
    first = encoders - 1
    if not first:
        return [(np.zeros_like(lengths), lengths)]
    edges = [np.full_like(lengths, first)]
    for part in range(first):
        edges.append(edges[-1] + ids[:, part])
    return list(pairwise([*edges, lengths]))


def min_length(encoders: Sequence[Encoder]) -> int:
    """The fewest tokens of a row."""
    return len(encoders) - 1 + sum(encoder.min_length for encoder in encoders)


def max_length(encoders: Sequence[Encoder]) -> int | None:
    """The most tokens of a row that the network takes, if it has such a limit. The network of several
    encoders takes a row apart first.
    """
    return encoders[0].max_length if len(encoders) == 1 else None


def windows_of(row: Ids, encoders: Sequence[Encoder], most_ids: int = MAX_IDS) -> list[Ids]:
    """The row of a text as rows for the network: one for each window of the encoder that has windows, all
    with the ids of the others. Several encoders: no more windows than give about `most_ids` ids.
    """
    if len(encoders) == 1:
        return encoders[0].windows(row)
    parts = [
        encoder.windows(part) for encoder, part in zip(encoders, unpack(row, len(encoders)), strict=True)
    ]
    count = min(max(map(len, parts)), _most_windows(row, most_ids))
    return [pack([part[min(i, len(part) - 1)] for part in parts]) for i in range(count)]


def window_tokens(row: Ids, encoders: Sequence[Encoder]) -> int:
    """How much a row of `windows_of` counts in the mean of a text: its tokens of the encoder that has
    windows, because the others have the same ids in each row.
    """
    last = len(encoders) - 1
    position = next(i for i, encoder in enumerate(encoders) if encoder.max_length is not None)
    return int(row[position]) if position < last else len(row) - last - int(row[:last].sum())


def is_cut(row: Ids, encoders: Sequence[Encoder], most_ids: int = MAX_IDS) -> bool:
    """Whether `windows_of` leaves some of the text out."""
    parts = [row] if len(encoders) == 1 else unpack(row, len(encoders))
    if any(encoder.is_cut(part) for encoder, part in zip(encoders, parts, strict=True)):
        return True
    most = _most_windows(row, most_ids)
    return (
        len(encoders) > 1
        and most < len(row)  # a window has at least one token of its own
        and any(len(encoder.windows(part)) > most for encoder, part in zip(encoders, parts, strict=True))
    )


def _most_windows(row: Ids, most_ids: int) -> int:
    return max(1, most_ids // max(1, len(row)))


def sample_row(encoders: Sequence[Encoder]) -> Ids:
    """The row of a short text."""
    return pack([encoder.sample() for encoder in encoders])


def chunks_of(row: Ids, encoders: Sequence[Encoder], size: int) -> Iterator[Ids]:
    """A long row in rows of at most `size` tokens per encoder. They give its result if they run one after
    another with the carry. An encoder with fewer chunks than the others gets neutral ones.
    """
    parts = [
        encoder.chunks(part, size) for encoder, part in zip(encoders, unpack(row, len(encoders)), strict=True)
    ]
    for i in range(max(map(len, parts))):
        yield pack(
            [
                chunks[i] if i < len(chunks) else encoder.neutral_chunk(chunks[-1])
                for encoder, chunks in zip(encoders, parts, strict=True)
            ]
        )
