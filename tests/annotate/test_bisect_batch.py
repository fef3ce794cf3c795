"""Bisection finds the invalid items of a refused list in few calls."""

import pytest

from server.annotate.bisect_batch import MAX_FAILURES, BatchRefused, bisect


@pytest.mark.parametrize(("bad", "most"), [(set(), 1), ({0}, 30), ({999}, 30), ({3, 500, 501}, 70)])
def test_the_invalid_items_are_found_in_few_calls(bad: set[int], most: int) -> None:
    done: list[int] = []
    sizes = []

    def attempt(part: list[int]) -> None:
        sizes.append(len(part))
        if bad.intersection(part):
            raise BatchRefused("bad")
        done.extend(part)

    assert list(bisect(list(range(1000)), attempt)) == [(number, "bad") for number in sorted(bad)]
    assert done == [number for number in range(1000) if number not in bad]
    assert len(sizes) <= most


def test_the_search_ends_where_everything_is_refused() -> None:
    sizes = []

    def attempt(part: list[int]) -> None:
        sizes.append(len(part))
        raise BatchRefused("nothing is taken")

    assert sorted(number for number, _ in bisect(list(range(100_000)), attempt)) == list(range(100_000))
    assert len(sizes) < 2 * MAX_FAILURES
