"""The rule of whose turn it is among several models that share the same threads. Pure: no waiting, no clock.

Start-time fair queueing (Goyal, Vin, Cheng 1996, "Start-time Fair Queueing"): whoever has used least goes
next, and a newcomer begins at the turn that is being served now, so that having been idle earns nobody a
lead.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairShare(Generic[K]):
    """Keys that compete, and what each has used, in any one unit."""

    def __init__(self) -> None:
        self._used: dict[K, float] = {}
        self._turn = 0.0

    def arrive(self, key: K) -> None:
        """`key` has something to do from now on; nothing changes for one that had already."""
        self._used.setdefault(key, self._turn)

    def leave(self, key: K) -> None:
        self._used.pop(key, None)

    def choose(self, keys: Iterable[K]) -> K:
        """Of `keys`, which arrived before, the one that has used least; of equals the first."""
        return min(keys, key=self._used.__getitem__)

    def charge(self, key: K, cost: float) -> None:
        self._turn = max(self._turn, self._used[key])
        self._used[key] += cost
