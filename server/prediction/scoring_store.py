"""Remembers which scoring each project asked for. Label Studio sends it at set-up and not with the tasks.

One process keeps it in memory. Several worker processes that serve the same projects share it through an
SQLite file.
"""

import mmap
import secrets
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from server.errors import Unavailable
from server.scoring import Scoring
from server.threads import in_thread

MAX_SCORINGS = 1_000
"""Projects with a scoring of their own that are kept; the one that changed its scoring longest ago is
evicted.
"""

BUSY_TIMEOUT = 10.0
"""Seconds that a write waits for another worker's."""

MARK_BYTES = 8

Key = tuple[str, str]
"""A model's name and a project's."""


class ProjectScorings:
    """Scorings by model and project; in memory, or shared through `file`."""

    def __init__(self, file: Path | None = None, max_projects: int = MAX_SCORINGS) -> None:
        self._max = max_projects
        self._scorings: OrderedDict[Key, Scoring] = OrderedDict()
        self._shared = SharedScorings(file, max_projects) if file is not None else None
        self._mark = b""

    async def of(self, model: str, project: str) -> Scoring | None:
        """The scoring that `project` asked for; None for the server's own."""
        await self._refresh()
        return self._scorings.get((model, project))

    async def remember(self, model: str, project: str, scoring: Scoring | None) -> None:
        """Stores the scoring that `project` asked for, None for the server's own; every worker uses it from
        now on. Raises Unavailable if the file cannot be written.
        """
        if scoring == await self.of(model, project):
            return
        if self._shared is not None:
            await in_thread(self._shared.write, (model, project), scoring)
            await self._refresh()
            return
        self._scorings.pop((model, project), None)
        if scoring is not None:
            self._scorings[model, project] = scoring
            if len(self._scorings) > self._max:
                self._scorings.popitem(last=False)

    async def _refresh(self) -> None:
        """Reads the file again if a worker has written to it."""
        if self._shared is not None and self._mark != (mark := self._shared.mark()):
            self._scorings = OrderedDict(await in_thread(self._shared.read))
            self._mark = mark

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()


class SharedScorings:
    """The scorings in a file. `read` and `write` block; call them in a thread.

    Next to the file is a mark, mapped into the memory of each worker: random bytes that a write replaces
    after its commit. A worker compares it with the mark of its last read, which costs no system call. The
    order makes it safe: a read that began before the commit finds another mark the next time.
    """

    def __init__(self, file: Path, max_projects: int) -> None:
        self._max = max_projects
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS scorings (model TEXT, project TEXT, score TEXT, threshold REAL, "
            "turn INTEGER, PRIMARY KEY (model, project))"
        )
        with file.with_suffix(".mark").open("ab") as mark:  # never shortens another worker's
            mark.truncate(MARK_BYTES)
        with file.with_suffix(".mark").open("r+b") as mark:
            self._mark = mmap.mmap(mark.fileno(), MARK_BYTES)

    def mark(self) -> bytes:
        return self._mark[:]

    def read(self) -> Mapping[Key, Scoring]:
        """All scorings. Raises Unavailable."""
        with self._lock, _as_unavailable("read"):
            rows = self._database.execute("SELECT model, project, score, threshold FROM scorings").fetchall()
        return {(model, project): Scoring(score, threshold) for model, project, score, threshold in rows}

    def write(self, key: Key, scoring: Scoring | None) -> None:
        """Stores or removes one scoring. Raises Unavailable."""
        with self._lock, _as_unavailable("stored"):
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                self._change(key, scoring)
            self._mark[:] = secrets.token_bytes(MARK_BYTES)

    def _change(self, key: Key, scoring: Scoring | None) -> None:
        if scoring is None:
            self._database.execute("DELETE FROM scorings WHERE model = ? AND project = ?", key)
            return
        self._database.execute(
            "INSERT INTO scorings VALUES (?, ?, ?, ?, (SELECT coalesce(max(turn), 0) + 1 FROM scorings)) "
            "ON CONFLICT DO UPDATE SET score = excluded.score, threshold = excluded.threshold, "
            "turn = excluded.turn",
            (*key, scoring.score, scoring.threshold),
        )
        self._database.execute(
            "DELETE FROM scorings WHERE turn <= (SELECT max(turn) FROM scorings) - ?", (self._max,)
        )

    def close(self) -> None:
        with self._lock:
            self._database.close()
            self._mark.close()


@contextmanager
def _as_unavailable(action: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"The projects' scorings could not be {action} ({error}). Restart the server if this goes on."
        ) from None
