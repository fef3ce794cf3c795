"""When to fit a new model. Pure."""

from dataclasses import dataclass
from typing import Literal

FIRST = 10
"""New annotations before the first round, and before each of the next ones."""

GROWTH = 0.1
"""With many annotations, a round waits for this share of them."""

QUIET = 60.0
"""Seconds without an annotation after which a round begins with fewer new ones."""

Order = Literal["diverse", "uncertainty", "random"]
"""Rules by which the tasks of a project are sorted after a round."""

Trigger = Literal["requested", "new annotations", "a quiet minute"]


@dataclass(frozen=True)
class Progress:
    """`changed` counts annotations that were new, changed or deleted since the last round, and `learned`
    those that it learned from. `quiet` is the time in seconds since the last of them.
    """

    changed: int
    learned: int
    quiet: float
    requested: bool = False
    frozen: bool = False


def due(progress: Progress) -> Trigger | None:
    """Why a round is due; None while none is. A request is met also where the project is frozen or nothing
    has changed, because a user waits for the result.
    """
    if progress.requested:
        return "requested"
    if progress.frozen or not progress.changed:
        return None
    if progress.changed >= max(FIRST, GROWTH * progress.learned):
        return "new annotations"
    return "a quiet minute" if progress.quiet >= QUIET else None
