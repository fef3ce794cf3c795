"""Bisection: finds the invalid items of a list that is refused as a whole."""

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

MAX_FAILURES = 32
"""After more failures in a row than this, a refused list is not searched further: all its items have failed.
"""


class BatchRefused(Exception):
    """A list was refused because of at least one of its items. The message says why."""


def bisect(items: list[T], attempt: Callable[[list[T]], None]) -> Iterator[tuple[T, str]]:
    """Call `attempt` with all items, then with halves of each list it refuses by raising BatchRefused.

    Yields the items that failed, each with the reason. One invalid item among n costs about 2·log2(n) calls.
    """
    parts = [items] if items else []
    failures = 0
    while parts:
        part = parts.pop()
        try:
            attempt(part)
            failures = 0
        except BatchRefused as error:
            failures += 1
            if len(part) == 1 or failures > MAX_FAILURES:
                yield from ((item, str(error)) for item in part)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
