"""Limits from which the server treats a model or an engine as broken."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FaultLimits:
    """`failed_calls`: model calls that fail in a row before the engine is rebuilt. `rebuild_interval`:
    seconds between two attempts to rebuild it. `load_timeout`: seconds for loading a bundle. `hung_calls`:
    hung model calls whose threads are replaced.
    """

    failed_calls: int = 3
    rebuild_interval: float = 10.0
    load_timeout: float = 600.0
    hung_calls: int = 8


DEFAULT_LIMITS = FaultLimits()
