"""Runs the learner next to the server: a process of its own, started again if it ends.

It ends when its standard input does, which also happens when the server is killed.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "export.learning")
"""By name: the server imports nothing of `export`. It reads the settings from its environment."""

RESTART_PAUSE = 5.0
"""Seconds before a learner that ended is started again."""

END_SECONDS = 10.0
"""Seconds that a learner has to end."""


@contextmanager
def learner_process(
    environ: dict[str, str], command: Sequence[str] = COMMAND, pause: float = RESTART_PAUSE
) -> Iterator[None]:
    """The learner runs inside of this context, with `environ` added to the server's."""
    supervisor = _Supervisor(command, environ, pause)
    thread = threading.Thread(target=supervisor.run, name="learner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        supervisor.end()
        thread.join(END_SECONDS)


class _Supervisor:
    def __init__(self, command: Sequence[str], environ: dict[str, str], pause: float) -> None:
        self._command = command
        self._pause = pause
        # one thread: the learner must not take the cores of the server's engine
        self._environ = os.environ | environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        while not self._ending.is_set():
            with self._lock:
                if self._ending.is_set():
                    return
                self._process = process = subprocess.Popen(  # noqa: S603 - our own module
                    self._command, stdin=subprocess.PIPE, env=self._environ
                )
            with process:  # closes its standard input when it has ended
                status = process.wait()
            if not self._ending.is_set():
                log.error("the learner ended with status %d; it is started again", status)
                self._ending.wait(self._pause)

    def end(self) -> None:
        """Let the learner end; kill it if it does not."""
        with self._lock:
            self._ending.set()
            process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
