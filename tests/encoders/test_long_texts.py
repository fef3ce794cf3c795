"""Texts longer than a transformer reads: cut, or in windows that overlap."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.arrays import Ids
from server.encoders.transformer.long_texts import cut, windows

PREFIX, SUFFIX = (101, 102), (103,)
rows = st.integers(0, 200).map(lambda tokens: np.array([*PREFIX, *range(tokens), *SUFFIX], dtype=np.int32))
longest = st.integers(len(PREFIX) + len(SUFFIX) + 4, 60)


@given(rows, longest)
def test_a_row_that_fits_stays_as_it_is(row: Ids, most: int) -> None:
    if len(row) <= most:
        assert cut(row, most, PREFIX, SUFFIX) is row
        assert [each is row for each in windows(row, most, PREFIX, SUFFIX)] == [True]


@given(rows, longest)
def test_a_cut_row_is_full_and_keeps_its_special_tokens(row: Ids, most: int) -> None:
    if len(row) <= most:
        return
    content = row[len(PREFIX) : -len(SUFFIX)].tolist()
    room = most - len(PREFIX) - len(SUFFIX)
    assert cut(row, most, PREFIX, SUFFIX).tolist() == [*PREFIX, *content[:room], *SUFFIX]
    assert cut(row, most, PREFIX, SUFFIX, left=True).tolist() == [*PREFIX, *content[-room:], *SUFFIX]


@given(rows, longest)
def test_windows_cover_a_text_and_overlap(row: Ids, most: int) -> None:
    found = windows(row, most, PREFIX, SUFFIX)
    contents = [each[len(PREFIX) : -len(SUFFIX)].tolist() for each in found]
    assert all(len(each) <= most for each in found)
    assert all(each[: len(PREFIX)].tolist() == [*PREFIX] for each in found)
    assert all(each[-len(SUFFIX) :].tolist() == [*SUFFIX] for each in found)
    assert sorted({token for each in contents for token in each}) == list(range(len(row) - 3))
    room = most - len(PREFIX) - len(SUFFIX)
    for one, other in pairwise(contents):
        assert len(set(one) & set(other)) == room // 4
        assert set(other) - set(one), "every window has something new"
