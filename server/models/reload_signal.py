"""SIGHUP reloads all bundles."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from server.models.registry import Registry


@contextmanager
def reload_on_sighup(registry: Registry) -> Iterator[None]:
    """Handles SIGHUP while the block runs. Only the main thread can; elsewhere use /admin/reload."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, running = asyncio.get_running_loop(), set[asyncio.Task[Any]]()

    def reload() -> None:
        task = loop.create_task(registry.reload())
        running.add(task)
        task.add_done_callback(running.discard)

    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)  # nohup ignores it; the loop would leave the default
