"""Work in threads: nothing waits inside the pool, and what was cancelled has ended."""

import asyncio
import gc
import threading
import weakref

import pytest

from server.threads import THREADS, in_thread


class Body:
    """Stands for something large."""


@pytest.mark.anyio
async def test_a_cancelled_call_that_waits_for_a_thread_lets_its_arguments_go() -> None:
    free = threading.Event()
    try:
        busy = [asyncio.create_task(in_thread(free.wait)) for _ in range(THREADS)]
        body = Body()
        seen = weakref.ref(body)
        waiting = asyncio.create_task(in_thread(id, body))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        del body, waiting
        gc.collect()
        assert seen() is None
    finally:
        free.set()
    assert await asyncio.gather(*busy) == [True] * THREADS


@pytest.mark.anyio
async def test_a_cancelled_call_ends_when_its_thread_has_ended() -> None:
    begun, free, ended = threading.Event(), threading.Event(), False

    def work() -> None:
        nonlocal ended
        begun.set()
        free.wait()
        ended = True

    try:
        call = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):
            call.cancel()
            await asyncio.sleep(0)
        assert not call.done()
    finally:
        free.set()
    await asyncio.wait([call])
    assert call.cancelled()
    assert ended


@pytest.mark.anyio
async def test_results_and_errors_are_those_of_the_function() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)
