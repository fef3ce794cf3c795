"""Supervision of engine threads: hung calls are abandoned, their threads replaced, their number bounded."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.batching.engine_thread import EngineThread
from server.batching.engine_threads import EngineThreads
from server.errors import EngineFailed
from tests.batching.conftest import EngineThreadNames

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


class Threads:
    """Engine threads and the outcomes of their calls; `changed` waits for a state."""

    def __init__(self, threads: EngineThreads) -> None:
        self.threads = threads
        self.outcomes: list[Any] = []
        self._change = asyncio.Event()
        threads.start(self._change.set)

    def run(self, call: Callable[[], Any], *, reserved: bool = False) -> None:
        self.threads.run(call, self.outcomes.append, reserved=reserved)

    async def changed(self, state: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not state():
                await self._change.wait()
                self._change.clear()


@asynccontextmanager
async def started(shared: int, call_timeout: float = PATIENCE, max_hung: int = 1) -> AsyncIterator[Threads]:
    threads = EngineThreads(shared, call_timeout=call_timeout, max_hung=max_hung)
    try:
        yield Threads(threads)
    finally:
        await threads.close()


def is_timeout(outcome: Any) -> bool:
    return isinstance(outcome, EngineFailed) and "PRELABEL_CALL_TIMEOUT" in str(outcome)


async def test_threads_run_from_start_to_close(engine_threads: EngineThreadNames) -> None:
    threads = EngineThreads(2, call_timeout=PATIENCE, max_hung=1)
    assert engine_threads() == []
    threads.start(lambda: None)
    assert engine_threads() == ["engine-0", "engine-1", "engine-reserved"]
    await threads.close()
    assert engine_threads() == []


async def test_results_and_exceptions_arrive_once_and_the_thread_is_idle_again() -> None:
    async with started(1) as threads:
        for call in (lambda: 5, lambda: 1 // 0):
            threads.run(call)
            assert not threads.threads.idle
            assert threads.threads.reserved_idle
            await threads.changed(lambda: threads.threads.idle)
        assert threads.outcomes[0] == 5
        assert isinstance(threads.outcomes[1], ZeroDivisionError)
        threads.run(lambda: threading.current_thread().name, reserved=True)
        assert threads.threads.idle
        await threads.changed(lambda: len(threads.outcomes) == 3)
        assert threads.outcomes[2] == "engine-reserved"


async def test_a_hung_call_fails_and_its_thread_is_replaced(engine_threads: EngineThreadNames) -> None:
    release = threading.Event()
    async with started(1, call_timeout=0.01) as threads:
        threads.run(release.wait)
        await threads.changed(lambda: threads.threads.idle)
        assert is_timeout(threads.outcomes[0])
        assert threads.threads.unhealthy_reason is None
        assert engine_threads() == ["engine-0", "engine-0", "engine-reserved"]
        threads.run(lambda: 5)
        await threads.changed(lambda: threads.threads.idle)
        release.set()
        async with asyncio.timeout(PATIENCE):
            while engine_threads() != ["engine-0", "engine-reserved"]:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0)
        assert [type(outcome) for outcome in threads.outcomes] == [EngineFailed, int]


async def test_with_too_many_hung_calls_threads_stay_missing_until_calls_return() -> None:
    release = [threading.Event() for _ in range(3)]
    async with started(1, call_timeout=0.01, max_hung=1) as threads:
        threads.run(release[0].wait)
        await threads.changed(lambda: threads.threads.idle)
        threads.run(release[1].wait)
        await threads.changed(lambda: len(threads.outcomes) == 2)
        assert not threads.threads.idle
        assert "2 model calls hang" in str(threads.threads.unhealthy_reason)
        threads.run(release[2].wait, reserved=True)
        await threads.changed(lambda: len(threads.outcomes) == 3)
        assert not threads.threads.reserved_idle
        # the first thread was replaced, so its end makes room for one more replacement
        release[0].set()
        await threads.changed(lambda: threads.threads.idle)
        assert "2 model calls hang" in str(threads.threads.unhealthy_reason)
        # the reserved thread was not replaced, so it goes on itself
        release[2].set()
        await threads.changed(lambda: threads.threads.reserved_idle)
        assert threads.threads.unhealthy_reason is None
        threads.run(lambda: 5, reserved=True)
        threads.run(lambda: 6)
        await threads.changed(lambda: len(threads.outcomes) == 5)
        assert sorted(threads.outcomes[3:]) == [5, 6]
        release[1].set()


async def test_a_thread_that_cannot_be_replaced_returns_after_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def no_thread_left(thread: EngineThread) -> None:
        raise RuntimeError("can't start new thread")

    async with started(1, call_timeout=0.01) as threads:
        with monkeypatch.context() as patched:
            patched.setattr(EngineThread, "start", no_thread_left)
            threads.run(release.wait)
            await threads.changed(lambda: bool(threads.outcomes))
        assert is_timeout(threads.outcomes[0])
        assert not threads.threads.idle
        assert threads.threads.unhealthy_reason is not None
        release.set()
        await threads.changed(lambda: threads.threads.idle)
        assert threads.threads.unhealthy_reason is None
        threads.run(lambda: 5)
        await threads.changed(lambda: threads.outcomes[1:] == [5])


async def test_close_waits_for_calls_under_way_but_not_for_hung_ones(
    engine_threads: EngineThreadNames,
) -> None:
    hung, running = threading.Event(), threading.Event()
    others = Threads(EngineThreads(1, call_timeout=0.01, max_hung=0))
    others.run(hung.wait)
    await others.changed(lambda: bool(others.outcomes))
    threads = Threads(EngineThreads(1, call_timeout=PATIENCE, max_hung=0))
    threads.run(running.wait)
    closing = asyncio.create_task(threads.threads.close())
    await asyncio.sleep(0)
    running.set()
    await closing
    assert engine_threads() == ["engine-0", "engine-reserved"]
    hung.set()
    await others.threads.close()
