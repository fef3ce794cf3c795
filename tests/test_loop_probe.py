"""The probe of the event loop sees each way to hold one."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.loop_probe import LIMIT, NET, LoopProbe


def spend(seconds: float) -> None:
    """CPU time in which the interpreter's lock is handed over when another thread asks for it."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def hold_the_lock() -> None:
    """One call that keeps the interpreter's lock for much longer than LIMIT."""
    sum(range(10_000_000))


async def watch(act: Callable[[], object], in_thread: bool = False) -> LoopProbe:
    """The probe of a loop on which, or in a thread of which, `act` was called."""
    probe = LoopProbe()
    messages: asyncio.Queue[Message] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if in_thread:
            await asyncio.to_thread(act)
        else:
            act()
        await asyncio.to_thread(probe.settle)
        await receive()

    async def send(message: Message) -> None:
        pass

    messages.put_nowait({"type": "lifespan.startup"})
    messages.put_nowait({"type": "lifespan.shutdown"})
    await probe.around(app)({"type": "lifespan"}, messages.get, send)
    assert probe.started.is_set()
    return probe


@pytest.mark.anyio
async def test_a_callback_that_computes_is_seen() -> None:
    probe = await watch(lambda: spend(2 * NET))
    assert probe.callbacks >= 2 * NET
    with pytest.raises(AssertionError, match=r"one turn of the event loop took \d+\.\d ms of CPU"):
        probe.check()
    probe.reset()
    probe.check()


@pytest.mark.anyio
async def test_a_thread_that_keeps_the_lock_is_seen_and_named() -> None:
    probe = await watch(hold_the_lock, in_thread=True)
    assert probe.lock > LIMIT
    assert re.fullmatch(r"server_\d+", probe.lock_holder)
    assert probe.callbacks < LIMIT


@pytest.mark.anyio
async def test_a_blocking_call_is_seen_on_the_loop_and_not_in_a_thread() -> None:
    def connect() -> None:
        sqlite3.connect(":memory:").close()

    for act, event in ((lambda: Path(__file__).open().close(), "open"), (connect, "sqlite3.connect")):
        probe = await watch(act)
        assert len(probe.blocking) == 1
        assert probe.blocking[0].startswith(f"{event} ")
        assert "test_loop_probe.py" in probe.blocking[0]
        with pytest.raises(AssertionError, match="blocking calls on the event loop"):
            probe.check()
        (await watch(act, in_thread=True)).check()


@pytest.mark.anyio
async def test_waiting_is_not_holding() -> None:
    """A loop that sleeps spends no CPU time, and a thread that waits keeps no lock."""
    probe = await watch(lambda: None)
    probe.check()
    assert probe.lock < LIMIT
