"""Rows of the queue: packed and taken apart again, at every place where it is done."""

from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.arrays import Ids
from server.encoders import rows
from server.encoders.base import Encoder
from server.engines.base import pad

parts = st.lists(st.integers(0, 2**31 - 1), max_size=9).map(lambda ids: np.array(ids, dtype=np.int32))
columns = st.integers(1, 4).flatmap(
    lambda encoders: st.lists(st.lists(parts, min_size=encoders, max_size=encoders), min_size=1, max_size=4)
)


@given(columns)
def test_what_is_packed_is_found_again(texts: list[list[Ids]]) -> None:
    packed = [rows.pack(each) for each in texts]
    encoders = len(texts[0])
    for row, each in zip(packed, texts, strict=True):
        assert row.dtype == np.int32
        assert all(map(np.array_equal, rows.unpack(row, encoders), each))
    ids, lengths = pad(packed, max(map(len, packed)) + 3)
    for position, (begins, ends) in enumerate(rows.bounds(ids, lengths, encoders)):
        for i, each in enumerate(texts):
            assert np.array_equal(ids[i, begins[i] : ends[i]], each[position])


class WithWindows:
    """Windows of four ids."""

    max_length = 4

    def windows(self, ids: Ids) -> list[Ids]:
        return [ids[begin : begin + 4] for begin in range(0, len(ids), 4)]

    def is_cut(self, ids: Ids) -> bool:
        return False


class WithoutWindows(WithWindows):
    def windows(self, ids: Ids) -> list[Ids]:
        return [ids]


def test_ids_that_all_windows_share_are_not_repeated_without_end() -> None:
    encoders = [cast("Encoder", WithWindows()), cast("Encoder", WithoutWindows())]
    row = rows.pack([np.arange(40, dtype=np.int32), np.arange(60, dtype=np.int32)])
    assert len(rows.windows_of(row, encoders)) == 10
    assert not rows.is_cut(row, encoders)
    for most_ids, windows in ((10 * len(row), 10), (5 * len(row), 5), (1, 1)):
        assert len(rows.windows_of(row, encoders, most_ids)) == windows
        assert rows.is_cut(row, encoders, most_ids) == (windows < 10)
