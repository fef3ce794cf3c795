"""Health of each model: whether it answers, and why not."""

from collections.abc import Callable

from server.batching.batcher import Batcher
from server.models.registry import Registry


class Health:
    """Combines the registry (engines whose calls fail) and the batcher (stopped, crashed, hung calls)."""

    def __init__(self, registry: Registry, batcher: Batcher) -> None:
        self._registry = registry
        self._batcher = batcher

    def unhealthy_reason(self, name: str) -> str | None:
        """Why the model `name` does not answer, as a sentence; None while it does."""
        if self._registry.failing(name):
            return f"{name}: its model calls fail; its engine is being rebuilt."
        return self._batcher.unhealthy_reason

    def first_unhealthy_reason(self) -> str | None:
        """Why at least one model does not answer; None while all do."""
        return next(filter(None, map(self.unhealthy_reason, self._registry.names)), None)

    def crash_reason(self) -> str | None:
        """Why only a new process can answer again, as a sentence; None while this one can."""
        return self._batcher.unhealthy_reason if self._batcher.crashed else None

    def publish(self, set_ready: Callable[[str, bool], None]) -> None:
        """Call `set_ready(name, ready)` for every model."""
        for name in self._registry.names:
            set_ready(name, self.unhealthy_reason(name) is None)
