"""Runs the learner next to the server: a process of its own, started again if it ends.

Its standard input is a line with its settings, and ends when it is to end, which also happens when the server
is killed.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from server.settings import Settings

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "export.learning")
"""By name: the server imports nothing of `export`."""

FIELDS = {
    *("bundle", "device", "engine", "label_map", "score", "threshold", "max_text"),
    *("learn", "learn_folder", "learn_retention_days", "order"),
    *("basic_auth_user", "log_level", "log_format"),
}
"""The settings of a learner, and the password of its Label Studio's ML backend."""

RESTART_PAUSE = 5.0
"""Seconds before a learner that ended is started again."""

END_SECONDS = 10.0
"""Seconds that a learner has to end."""


def learner_settings(settings: Settings) -> str:
    """A line of JSON, which `Settings(**…)` reads."""
    found = settings.model_dump(mode="json", include=FIELDS)
    return json.dumps(found | {"basic_auth_pass": settings.basic_auth_pass.get_secret_value()})


@contextmanager
def learner_process(
    line: str, command: Sequence[str] = COMMAND, pause: float = RESTART_PAUSE
) -> Iterator[None]:
    """The learner runs inside of this context; it reads `line`, its settings, from its standard input."""
    supervisor = _Supervisor(line, command, pause)
    thread = threading.Thread(target=supervisor.run, name="learner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        supervisor.end()
        thread.join(END_SECONDS)


class _Supervisor:
    def __init__(self, line: str, command: Sequence[str], pause: float) -> None:
        self._line = line.encode() + b"\n"
        self._command = command
        self._pause = pause
        # one thread: the learner must not take the cores of the server's engine
        self._environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
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
                self._send_settings(process)
            with process:  # closes its standard input when it has ended
                status = process.wait()
            if not self._ending.is_set():
                log.error("the learner ended with status %d; it is started again", status)
                self._ending.wait(self._pause)

    def _send_settings(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended already
                process.stdin.write(self._line)
                process.stdin.flush()

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
