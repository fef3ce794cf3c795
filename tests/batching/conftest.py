"""Engine threads, as tests of batching look at them."""

import threading
from collections.abc import Callable

import pytest

EngineThreadNames = Callable[[], list[str]]


@pytest.fixture
def engine_threads() -> EngineThreadNames:
    """Names of the engine threads that this test started; a server of other tests may run too."""
    others = set(threading.enumerate())
    return lambda: sorted(
        each.name for each in set(threading.enumerate()) - others if each.name.startswith("engine-")
    )
