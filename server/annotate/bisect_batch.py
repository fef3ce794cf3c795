"""Finding the bad ones in a list that is refused as a whole."""

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

REFUSALS = 32
"""Refusals in a row after which a refused list is no longer searched for the bad ones: all of it is."""


class BatchRefused(Exception):
    """A list was refused for something in it. The message says why."""


def bisect(items: list[T], attempt: Callable[[list[T]], None]) -> Iterator[tuple[T, str]]:
    """Do `attempt` with all items, and with halves of what it refuses (BatchRefused): the bad ones come out,
    each with the reason.
    """
    waiting = [items] if items else []
    in_a_row = 0
    while waiting:
        part = waiting.pop()
        try:
            attempt(part)
            in_a_row = 0
        except BatchRefused as refusal:
            in_a_row += 1
            if len(part) == 1 or in_a_row > REFUSALS:
                yield from ((item, str(refusal)) for item in part)
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
