"""Fair shares for several models: whose batch runs next. A pure data structure without a clock.

P. Goyal, H. M. Vin, H. Cheng: "Start-time Fair Queueing", SIGCOMM 1996. Each key has a tag: the virtual time
at which its next batch starts. Running a batch advances the tag by the cost of the batch, and the key with
the smallest tag runs next. A key that becomes active starts at max(virtual time, its last tag): idle time
earns no credit, and a key that goes idle keeps its debt. When every key is idle, no row waits, and the
virtual time moves to the smallest debt: a key that is the only one to owe is forgiven, at most one batch.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairShare(Generic[K]):
    """Tags of the active keys, and of idle keys that still owe. Tags and costs share one unit, e.g. tokens.

    While two keys are active and compete, their total costs differ by at most the sum of their largest costs.
    """

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self._active: dict[K, float] = {}
        self._idle: dict[K, float] = {}  # only tags beyond the virtual time, so that old keys are forgotten

    def activate(self, key: K) -> None:
        """`key` has work. Does nothing if it is active already."""
        if key not in self._active:
            self._active[key] = max(self._virtual_time, self._idle.pop(key, 0.0))

    def deactivate(self, key: K) -> None:
        """`key` has no more work. Does nothing if it is not active."""
        if key not in self._active:
            return
        tag = self._active.pop(key)
        if tag > self._virtual_time:
            self._idle[key] = tag
        if self._idle and not self._active:
            # no competition: catch up with the smallest debt; the differences between debts remain
            self._advance_to(min(self._idle.values()))

    def choose(self, keys: Iterable[K]) -> K:
        """The key with the smallest tag; the first of equals. All `keys` must be active."""
        return min(keys, key=self._active.__getitem__)

    def charge(self, key: K, cost: float) -> None:
        """The active `key` ran a batch of this cost."""
        self._advance_to(min(self._active.values()))
        self._active[key] += cost

    @property
    def tags(self) -> int:
        """Number of keys in memory, active or idle."""
        return len(self._active) + len(self._idle)

    def _advance_to(self, virtual_time: float) -> None:
        self._virtual_time = max(self._virtual_time, virtual_time)
        self._idle = {key: tag for key, tag in self._idle.items() if tag > self._virtual_time}
