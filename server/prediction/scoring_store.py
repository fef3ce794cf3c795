"""Which scoring each project asked for when it was set up: Label Studio tells it then, and not when it asks
for predictions.

Kept in SQLite, in memory or, where several worker processes answer the same projects, in a file they share.
"""

import sqlite3
from pathlib import Path

from server.observability.project_activity import MAX_PROJECTS
from server.scoring import Scoring


class ProjectScorings:
    """In `file` or in memory; bounded by MAX_PROJECTS, of which the one set up longest ago is forgotten."""

    def __init__(self, file: Path | None = None) -> None:
        self._database = sqlite3.connect(file or ":memory:", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS scorings (model TEXT, project TEXT, score TEXT, threshold REAL, "
            "PRIMARY KEY (model, project))"
        )

    def of(self, model: str, project: str) -> Scoring | None:
        """What `project` asked of `model`; None when that was nothing of its own."""
        found = self._database.execute(
            "SELECT score, threshold FROM scorings WHERE model = ? AND project = ?", (model, project)
        ).fetchone()
        return Scoring(*found) if found else None

    def remember(self, model: str, project: str, scoring: Scoring | None) -> None:
        """`project` was set up with `model`, with `scoring` or with nothing of its own."""
        if scoring == self.of(model, project):
            return
        self._database.execute("DELETE FROM scorings WHERE model = ? AND project = ?", (model, project))
        if scoring is not None:
            self._database.execute(
                "INSERT INTO scorings VALUES (?, ?, ?, ?)", (model, project, scoring.score, scoring.threshold)
            )
            self._database.execute(
                "DELETE FROM scorings WHERE rowid <= (SELECT max(rowid) FROM scorings) - ?", (MAX_PROJECTS,)
            )

    def close(self) -> None:
        self._database.close()
