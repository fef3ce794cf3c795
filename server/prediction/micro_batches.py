"""Cuts a large request into micro-batches, so that its stages overlap."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MICRO_BATCH = 128
"""Most tasks in a micro-batch: about half a millisecond of work on the event loop."""

MICRO_BATCH_REGIONS = 512
"""Most regions in a micro-batch of tasks with many controls, unless one task alone has more."""

MICRO_BATCH_CHARACTERS = 1_000_000
"""Most characters in a micro-batch, unless one text alone has more."""

MICRO_BATCHES_AT_ONCE = 3
"""Enough to keep the model busy while other micro-batches are prepared or written."""


def micro_batches(items: Sequence[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Consecutive `items` in lists of at most `most`, and of at most MICRO_BATCH_CHARACTERS by their `size`
    unless a single item has more.
    """
    batch: list[T] = []
    characters = 0
    for item in items:
        more = size(item)
        if batch and (len(batch) == most or characters + more > MICRO_BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(item)
        characters += more
    if batch:
        yield batch
