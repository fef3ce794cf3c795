"""The durable memory of learning, in one SQLite file that several processes share.

Each annotation is in it once, in its latest version. A deleted annotation leaves its number only, so that an
event which comes late does not bring it back. The file holds texts of tasks: only its owner can read it.
"""

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from server.errors import BadInput, Unavailable
from server.learning.annotations import Annotation, OutOfFold

STORE = "learning.sqlite"
"""Its name in the folder of a server that learns."""

FORMAT = 1
"""Number of the schema, kept in `PRAGMA user_version`."""

BUSY_TIMEOUT = 10.0
"""Seconds that a write waits for one of another process."""

SCHEMA = """
CREATE TABLE projects (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, name TEXT NOT NULL, config TEXT NOT NULL,
    control TEXT, learns INTEGER NOT NULL, frozen INTEGER NOT NULL DEFAULT 0,
    training_requested INTEGER NOT NULL DEFAULT 0,
    served TEXT NOT NULL DEFAULT '', previous TEXT NOT NULL DEFAULT ''
);
CREATE TABLE annotations (
    project INTEGER NOT NULL, id INTEGER NOT NULL, task INTEGER, annotator INTEGER, text TEXT, labels TEXT,
    updated TEXT NOT NULL, received TEXT NOT NULL, served TEXT NOT NULL DEFAULT '', predicted TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, id)
);
CREATE TABLE out_of_fold (
    project INTEGER NOT NULL, version TEXT NOT NULL, annotation INTEGER NOT NULL,
    log_probability REAL NOT NULL, right INTEGER NOT NULL,
    PRIMARY KEY (project, version, annotation)
);
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project INTEGER NOT NULL, time TEXT NOT NULL, report TEXT NOT NULL
);
CREATE INDEX rounds_of_project ON rounds (project, id);
"""


@dataclass(frozen=True)
class LearningProject:
    """A project of Label Studio that was set up with this server. `model` is the name it is served under;
    `name` what Label Studio calls it in requests; `config` its labeling config; `control` the control to
    learn, None for its only one. `served` and `previous` are versions of learned models, "" for none.
    """

    id: int
    model: str
    name: str
    config: str
    control: str | None = None
    learns: bool = True
    frozen: bool = False
    training_requested: bool = False
    served: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Received:
    """How many annotations were new, newer versions, or deleted; repeated ones count nowhere."""

    added: int = 0
    changed: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        return f"{self.added} new, {self.changed} changed, {self.deleted} deleted"

    @property
    def total(self) -> int:
        return self.added + self.changed + self.deleted


@dataclass(frozen=True)
class Agreement:
    """Annotations with the same annotator and labels: in `agreed` of `total` the model had predicted them."""

    annotator: int
    labels: tuple[str, ...]
    agreed: int
    total: int


class LearningStore:
    """The file, which is made if it does not exist. All methods block; call them in a thread. They may be
    called from several threads. They raise Unavailable if the file cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        """Raises BadInput for a file of a newer version, or one that is no such file."""
        self._lock = threading.Lock()
        self._file = file
        with _as_unavailable():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # only if it is new: closing a descriptor of the file ends the locks that this process has on it
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            file.chmod(0o600)
        self._database = sqlite3.connect(
            file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            with _alone_in(file.parent):
                self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise BadInput(f"{file}: expected the file of a learning server ({error}).") from None

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("PRAGMA secure_delete=ON")  # what is forgotten leaves no bytes in the file
        self._database.row_factory = sqlite3.Row
        with self._transaction() as run:
            (found,) = run("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise BadInput(
                    f"{self._file}: format {found}; this version of Prelabel knows {FORMAT}: upgrade it."
                )
            if found == 0:
                for statement in SCHEMA.split(";"):
                    run(statement)
                run(f"PRAGMA user_version = {FORMAT}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    # projects

    def set_up(self, project: LearningProject) -> None:
        """Store what the set-up of a project says; what the server found out about it stays."""
        with self._transaction() as run:
            run(
                "INSERT INTO projects (id, model, name, config, control, learns) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET model = excluded.model, name = excluded.name, "
                "config = excluded.config, control = excluded.control, learns = excluded.learns",
                (project.id, project.model, project.name, project.config, project.control, project.learns),
            )

    def projects(self) -> list[LearningProject]:
        with self._reading() as run:
            return [_project(row) for row in run("SELECT * FROM projects ORDER BY id").fetchall()]

    def project(self, project: int) -> LearningProject | None:
        with self._reading() as run:
            row = run("SELECT * FROM projects WHERE id = ?", (project,)).fetchone()
        return None if row is None else _project(row)

    def freeze(self, project: int, frozen: bool) -> None:
        """A frozen project is received, and its model stays."""
        self._change("UPDATE projects SET frozen = ? WHERE id = ?", frozen, project)

    def request_training(self, project: int, requested: bool = True) -> None:
        """Ask for a round at once; the learner takes the request back when it begins one."""
        self._change("UPDATE projects SET training_requested = ? WHERE id = ?", requested, project)

    def serve(self, project: int, version: str) -> None:
        """Serve this learned model from now on, "" for none; the one before is kept for a rollback."""
        self._change(
            "UPDATE projects SET previous = served, served = ? WHERE id = ? AND served != ?",
            version,
            project,
            version,
        )

    # annotations

    def receive(
        self,
        project: int,
        annotations: Iterable[Annotation],
        deleted: Iterable[int] = (),
        deleted_tasks: Collection[int] = (),
    ) -> Received:
        """Store new annotations and newer versions; delete others by their numbers, or by those of their
        tasks. What was received before changes nothing.
        """
        with self._transaction() as run:
            return _receive(run, project, annotations, [*deleted, *_of_tasks(run, project, deleted_tasks)])

    def reconcile(self, project: int, annotations: Sequence[Annotation], since: str) -> Received:
        """As `receive` for all annotations that Label Studio had at the time `since`: others that were
        received before that time are deleted.
        """
        kept = {annotation.id for annotation in annotations}
        with self._transaction() as run:
            rows = run(
                "SELECT id FROM annotations WHERE project = ? AND NOT deleted AND received < ?",
                (project, since),
            ).fetchall()
            return _receive(run, project, annotations, [row["id"] for row in rows if row["id"] not in kept])

    def annotations(self, project: int) -> list[Annotation]:
        """By number, which is the order in which they were made."""
        with self._reading() as run:
            rows = run(
                "SELECT * FROM annotations WHERE project = ? AND NOT deleted ORDER BY id", (project,)
            ).fetchall()
        return [_annotation(row) for row in rows]

    def count(self, project: int) -> int:
        """Annotations of a project."""
        with self._reading() as run:
            query = "SELECT count(*) FROM annotations WHERE project = ? AND NOT deleted"
            (number,) = run(query, (project,)).fetchone()
        return int(number)

    def changed_since(self, project: int, time: str) -> int:
        """Annotations that were new, changed or deleted after this time."""
        with self._reading() as run:
            query = "SELECT count(*) FROM annotations WHERE project = ? AND received > ? AND task IS NOT NULL"
            (number,) = run(query, (project, time)).fetchone()
        return int(number)

    def last_received(self, project: int) -> str | None:
        """When something of this project was received last; None if nothing was."""
        with self._reading() as run:
            (time,) = run("SELECT max(received) FROM annotations WHERE project = ?", (project,)).fetchone()
        return None if time is None else str(time)

    def agreement(self, project: int) -> list[Agreement]:
        """How often annotators gave the labels that the model had predicted, by annotator and labels."""
        query = (
            "SELECT annotator, labels, sum(labels = predicted) AS agreed, count(*) AS total FROM annotations "
            "WHERE project = ? AND NOT deleted AND predicted IS NOT NULL AND labels != '[]' "
            "GROUP BY annotator, labels ORDER BY annotator, labels"
        )
        with self._reading() as run:
            rows = run(query, (project,)).fetchall()
        return [
            Agreement(row["annotator"], tuple(json.loads(row["labels"])), row["agreed"], row["total"])
            for row in rows
        ]

    def latest_agreement(self, project: int, most: int) -> tuple[int, int]:
        """(agreed, total) of the latest annotations, `most` of them at most."""
        query = (
            "SELECT coalesce(sum(labels = predicted), 0), count(*) FROM (SELECT labels, predicted FROM "
            "annotations WHERE project = ? AND NOT deleted AND predicted IS NOT NULL AND labels != '[]' "
            "ORDER BY id DESC LIMIT ?)"
        )
        with self._reading() as run:
            agreed, total = run(query, (project, most)).fetchone()
        return int(agreed), int(total)

    def decisions(self, project: int) -> dict[str, int]:
        """How many rounds ended in each decision."""
        query = (
            "SELECT json_extract(report, '$.decision') AS decision, count(*) AS total FROM rounds "
            "WHERE project = ? GROUP BY decision ORDER BY decision"
        )
        with self._reading() as run:
            return {str(row["decision"]): row["total"] for row in run(query, (project,)).fetchall()}

    def delete_older_than(self, days: float) -> int:
        """Delete the annotations, of all projects, whose version is older; returns how many. They stay
        deleted: a later version does not bring them back.
        """
        with self._transaction() as run:
            deleted = run(
                "UPDATE annotations SET deleted = 1, text = NULL, labels = NULL, predicted = NULL "
                "WHERE NOT deleted AND updated < ?",
                (utc(datetime.now(UTC) - timedelta(days=days)),),
            ).rowcount
        if deleted:
            self._shorten_log()
        return int(deleted)

    def set_predicted(self, project: int, predicted: Mapping[int, Sequence[str]]) -> None:
        """Store what the model gave these annotations' texts when they were received."""
        with self._transaction() as run:
            for number, labels in predicted.items():
                run(
                    "UPDATE annotations SET predicted = ? WHERE project = ? AND id = ? AND NOT deleted",
                    (json.dumps([*labels]), project, number),
                )

    def forget(self, project: int) -> int:
        """Delete all that is known of a project, until its next set-up; returns how many annotations that
        were.
        """
        with self._transaction() as run:
            query = "SELECT count(*) FROM annotations WHERE project = ? AND NOT deleted"
            (number,) = run(query, (project,)).fetchone()
            for table in ("annotations", "out_of_fold", "rounds"):
                run(f"DELETE FROM {table} WHERE project = ?", (project,))  # noqa: S608 - names from this line
            run("DELETE FROM projects WHERE id = ?", (project,))
        self._shorten_log()
        return int(number)

    # rounds and their models

    def add_round(self, project: int, report: Mapping[str, Any]) -> None:
        """`report` as JSON says what was tried, and why it was accepted or refused."""
        self._change(
            "INSERT INTO rounds (project, time, report) VALUES (?, ?, ?)", project, now(), json.dumps(report)
        )

    def rounds(self, project: int, most: int = 100) -> list[dict[str, Any]]:
        """The latest reports, the oldest of them first; each with its `time`."""
        with self._reading() as run:
            rows = run(
                "SELECT time, report FROM rounds WHERE project = ? ORDER BY id DESC LIMIT ?", (project, most)
            ).fetchall()
        return [{"time": row["time"], **json.loads(row["report"])} for row in reversed(rows)]

    def count_rounds(self, project: int) -> int:
        with self._reading() as run:
            (number,) = run("SELECT count(*) FROM rounds WHERE project = ?", (project,)).fetchone()
        return int(number)

    def set_out_of_fold(self, project: int, version: str, out_of_fold: Mapping[int, OutOfFold]) -> None:
        """What the model of this version gave each annotation while it was not fitted on it."""
        with self._transaction() as run:
            for number, each in out_of_fold.items():
                run(
                    "INSERT OR REPLACE INTO out_of_fold VALUES (?, ?, ?, ?, ?)",
                    (project, version, number, each.log_probability, each.right),
                )

    def out_of_fold(self, project: int, version: str) -> dict[int, OutOfFold]:
        with self._reading() as run:
            rows = run(
                "SELECT * FROM out_of_fold WHERE project = ? AND version = ?", (project, version)
            ).fetchall()
        return {row["annotation"]: OutOfFold(row["log_probability"], bool(row["right"])) for row in rows}

    def _shorten_log(self) -> None:
        """Deleted texts are in SQLite's log, too, until it is empty."""
        with self._lock, _as_unavailable():
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _change(self, statement: str, *values: Any) -> None:
        with self._transaction() as run:
            run(statement, values)

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[Any]:
        with self._lock, _as_unavailable():
            self._database.execute(f"BEGIN {kind}")
            with self._database:
                yield self._database.execute

    def _reading(self) -> AbstractContextManager[Any]:
        """Waits for no writer."""
        return self._transaction("DEFERRED")


def now() -> str:
    """The time in UTC, such as 2026-01-31T12:00:00.000000+00:00."""
    return utc(datetime.now(UTC))


def utc(time: datetime) -> str:
    """A time as the store keeps it; such texts compare as their times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _receive(run: Any, project: int, annotations: Iterable[Annotation], deleted: Iterable[int]) -> Received:
    added = changed = gone = 0
    received = now()
    for each in annotations:
        found = run(
            "SELECT updated, deleted FROM annotations WHERE project = ? AND id = ?", (project, each.id)
        ).fetchone()
        if found is not None and (found["deleted"] or found["updated"] >= each.updated):
            continue
        added += found is None
        changed += found is not None
        # what models gave its earlier labels says nothing of these
        run("DELETE FROM out_of_fold WHERE project = ? AND annotation = ?", (project, each.id))
        run(
            "INSERT INTO annotations (project, id, task, annotator, text, labels, updated, received, served) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET task = excluded.task, "
            "annotator = excluded.annotator, text = excluded.text, labels = excluded.labels, "
            "updated = excluded.updated, received = excluded.received",
            (
                *(project, each.id, each.task, each.annotator, each.text, json.dumps(each.labels)),
                *(each.updated, received, each.served),
            ),
        )
    for number in deleted:
        cursor = run(
            "UPDATE annotations SET deleted = 1, text = NULL, labels = NULL, predicted = NULL, received = ? "
            "WHERE project = ? AND id = ? AND NOT deleted",
            (received, project, number),
        )
        gone += cursor.rowcount
        run(
            "INSERT OR IGNORE INTO annotations (project, id, updated, received, deleted) "
            "VALUES (?, ?, '', ?, 1)",
            (project, number, received),
        )
    return Received(added, changed, gone)


def _of_tasks(run: Any, project: int, tasks: Collection[int]) -> list[int]:
    """The annotations of these tasks."""
    if not tasks:
        return []
    rows = run("SELECT id, task FROM annotations WHERE project = ? AND NOT deleted", (project,)).fetchall()
    return [row["id"] for row in rows if row["task"] in tasks]


def _project(row: sqlite3.Row) -> LearningProject:
    flags = {name: bool(row[name]) for name in ("learns", "frozen", "training_requested")}
    return LearningProject(**{name: row[name] for name in row.keys()} | flags)  # noqa: SIM118 - no mapping


def _annotation(row: sqlite3.Row) -> Annotation:
    predicted = None if row["predicted"] is None else tuple(json.loads(row["predicted"]))
    labels = tuple(json.loads(row["labels"]))
    given = (row["id"], row["task"], row["annotator"], row["text"], labels, row["updated"])
    return Annotation(*given, row["served"], predicted)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process does the same: SQLite refuses two that change its log at once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise Unavailable(f"The file of learned annotations cannot be used ({error}).") from None
