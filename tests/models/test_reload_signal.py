"""SIGHUP reloads while the server runs; afterwards the previous handler is back."""

import asyncio
import os
import signal

from server.models.registry import Registry
from server.models.reload_signal import reload_on_sighup


class Reloads(Registry):
    """Records a reload instead of doing it."""

    def __init__(self) -> None:
        self.reloaded = asyncio.Event()

    async def reload(self, name: str | None = None) -> list[object]:  # type: ignore[override]
        self.reloaded.set()
        return []


async def hang_up() -> None:
    registry = Reloads()
    with reload_on_sighup(registry):
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(30):
            await registry.reloaded.wait()


def test_the_handler_is_that_of_before_once_the_server_has_stopped() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asyncio.run(hang_up())
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
