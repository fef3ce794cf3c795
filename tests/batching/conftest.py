"""Engine threads, as tests of batching look at them."""

import threading
from collections.abc import Callable

import pytest

EngineThreadNames = Callable[[], list[str]]


@pytest.fixture
def engine_threads() -> EngineThreadNames:
    """Names of the engine threads that run and did not before the test: a server of other tests may be running."""
    others = set(threading.enumerate())
    return lambda: sorted(
        each.name for each in set(threading.enumerate()) - others if each.name.startswith("engine-")
    )
