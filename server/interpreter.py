"""Settings of the Python interpreter that a running server needs; they are the process's, and end with it."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL = 0.0001
"""Seconds after which a thread that waits for the interpreter's lock may ask for it; 5 ms by default.

Threads that prepare a large request run Python code. With the default, the event loop would wait 5 ms
whenever it wakes, and a single task waited 1.1 s during a request of 20,000 tasks.
"""


class Interpreter:
    """Counts the servers of a process: the first changes the settings, and the last restores them, whichever
    that is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers = 0
        self._interval = 0.0
        self._frozen = False

    @contextmanager
    def tuned(self) -> Iterator[None]:
        """A short switch interval; and modules and models that are there now are left out by the garbage
        collector, which would walk through half a million objects of theirs again and again.
        """
        with self._lock:
            self._servers += 1
            if self._servers == 1:
                self._change()
        try:
            yield
        finally:
            with self._lock:
                self._servers -= 1
                if not self._servers:
                    self._restore()

    def _change(self) -> None:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        gc.collect()
        self._frozen = not gc.get_freeze_count()  # else it was done before, and for longer
        if self._frozen:
            gc.freeze()

    def _restore(self) -> None:
        sys.setswitchinterval(self._interval)
        if self._frozen:
            gc.unfreeze()


INTERPRETER = Interpreter()
"""That of this process."""
