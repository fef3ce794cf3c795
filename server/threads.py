"""Work in threads, for the event loop."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")

THREADS = min(32, (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4)
"""The size of asyncio's default pool; `process_cpu_count` is that of Python 3.13."""

_free: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function` with its arguments, in a thread of the loop's default pool; costs a tenth of a millisecond.

    Calls queue on a semaphore, because the pool's own queue would keep the arguments of a cancelled call,
    such as a large body. A call that is cancelled while its thread runs waits for the thread's end: until
    then its request counts against the limits of what is admitted.
    """
    loop = asyncio.get_running_loop()
    if loop not in _free:
        _free[loop] = asyncio.Semaphore(THREADS)
    async with _free[loop]:
        running = loop.run_in_executor(None, partial(function, *args, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            raise
