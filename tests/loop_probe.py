"""Measures how long a running server keeps its event loop from the next event.

Two things hold a loop: a callback that runs on it, and another thread that keeps the interpreter's lock. Both
are measured in CPU time, so that the figures do not depend on how busy the machine is. A blocking call on the
loop's thread (a file, a name look-up) costs no CPU time; an audit hook records it.
"""

import asyncio
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 0.020
"""Seconds of CPU that one turn of the loop, or one hold of the interpreter's lock, may take."""

NET = 5 * LIMIT
"""The same where a measurement is not repeated: CPU time includes that of cold caches and of a hypervisor."""

PERIOD = 0.001
"""Seconds between two measurements."""

WORKERS = ("server_", "config_", "engine-")
"""Prefixes of the names of the server's own threads: those of the loop's default executor, which the probe
names, of labeling configs and of the engines. Threads of the test, which hold the lock while they write
requests and read answers, do not count.
"""

BLOCKING = {
    "open",
    "os.listdir",
    "os.scandir",
    "shutil.copyfile",
    "socket.connect",
    "socket.getaddrinfo",
    "sqlite3.connect",
    "subprocess.Popen",
}
"""Audit events of calls that can wait for a disk or a peer. Python 3.11 has none for a sleep."""


class LoopProbe:
    """Wraps an ASGI app and measures the loop that runs it, from the end of its startup to its shutdown.

    `callbacks` is the longest CPU time, in seconds, that the loop's thread spent between two turns of the
    loop. `lock` is the longest CPU time that another thread of the server spent while the loop wanted the
    interpreter's lock. `blocking` names the blocking calls on the loop's thread, with their callers.
    `started` is set when the app has started.
    """

    def __init__(self) -> None:
        self.callbacks = 0.0
        self.lock = 0.0
        self.lock_holder = ""
        self.blocking: list[str] = []
        self.started = threading.Event()
        self._own = 0.0
        self._turns = threading.Semaphore(0)
        self._clocks: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def around(self, app: ASGIApp) -> ASGIApp:
        async def probed(scope: Scope, receive: Receive, send: Send) -> None:
            async def watch(message: Message) -> None:
                await send(message)
                if message["type"] == "lifespan.startup.complete":
                    self._start()

            async def end() -> Message:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    self._stop()
                return message

            lifespan = scope["type"] == "lifespan"
            await app(scope, end if lifespan else receive, watch if lifespan else send)

        return probed

    def reset(self) -> None:
        """Forgets what was measured so far."""
        self.callbacks = self.lock = 0.0
        self.blocking = []

    def settle(self) -> None:
        """Waits until everything that the loop has done so far is measured."""
        while self._turns.acquire(blocking=False):
            pass
        for _ in range(2):
            self._turns.acquire()

    def check(self) -> None:
        """Raises AssertionError if a callback took longer than NET, or a blocking call ran on the loop."""
        assert self.callbacks < NET, f"one turn of the event loop took {self.callbacks * 1000:.1f} ms of CPU"
        assert not self.blocking, f"blocking calls on the event loop: {self.blocking}"

    def _start(self) -> None:
        gc.freeze()  # a collection on the loop's thread should not walk through the test's own objects
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="server"))
        self._own, self._clocks = time.thread_time(), _clocks()
        _PROBES[threading.get_ident()] = self
        self.started.set()
        self._schedule()

    def _stop(self) -> None:
        _PROBES.pop(threading.get_ident(), None)
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._measure)

    def _measure(self) -> None:
        """The timer of the loop is late by what held it: CPU time of its own thread, or of another one while
        it had the lock. A loop that waits for a processor may be blamed on the other thread; a test repeats.
        """
        own, clocks = time.thread_time(), _clocks()
        spent = own - self._own
        self.callbacks = max(self.callbacks, spent)
        for thread, cpu in clocks.items():
            held = cpu - self._clocks.get(thread, 0.0) - spent
            if held > self.lock:
                self.lock, self.lock_holder = held, _name(thread)
        self._own, self._clocks = time.thread_time(), clocks
        self._turns.release()
        self._schedule()


_PROBES: dict[int, LoopProbe] = {}
"""By the identity of the loop's thread."""


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event not in BLOCKING or (probe := _PROBES.get(threading.get_ident())) is None:
        return
    callers: list[str] = []
    frame = sys._getframe(1)  # the traceback module would open the source files
    while frame.f_back is not None and len(callers) < 6:
        callers.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    # a traceback in the log quotes source lines: they are read once, and only when something failed
    if not any(caller.startswith("linecache.py") for caller in callers):
        probe.blocking.append(f"{event} {args[:1]} at {' < '.join(callers)}")


sys.addaudithook(_audit)


def _clocks() -> dict[int, float]:
    """CPU seconds of each of the server's threads, by its native identity."""
    clocks = {}
    for thread in threading.enumerate():
        if thread.native_id is not None and thread.name.startswith(WORKERS):
            with suppress(OSError):  # it ended a moment ago
                clocks[thread.native_id] = time.clock_gettime(_cpu_clock(thread.native_id))
    return clocks


def _cpu_clock(native_id: int) -> int:
    """Linux's clock of a thread's CPU time (CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED). Unlike
    `time.pthread_getcpuclockid`, it is safe for a thread that has ended.
    """
    return (~native_id << 3) | 6


def _name(native_id: int) -> str:
    return next((each.name for each in threading.enumerate() if each.native_id == native_id), "?")
