"""What happened to each project, for whoever asks why nothing is predicted: Label Studio hides it.

Held in memory, bounded, and free of task texts, labeling configs and credentials: projects by Label Studio's
own name for them, counts, times, and the plain reasons of refusals.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypedDict

from server.errors import BadLabelConfig, PrelabelError

PROJECT = re.compile(r"[\w.-]{1,100}", re.ASCII)
"""Label Studio's name for a project is `<id>.<unix time of its creation>`; what is none is told as "unknown".
"""

MAX_PROJECTS = 1_000
"""Projects that are told of; of more, the one that was heard of longest ago is forgotten."""


class ErrorStatus(TypedDict):
    time: str
    error: str
    status: int
    reason: str


class RefusedConfig(TypedDict):
    time: str
    model: str
    project: str
    reason: str


class ProjectStatus(TypedDict):
    """A `Project` with the names of its model and of itself."""

    project: str
    model: str
    set_up: str | None
    model_version: str | None
    config: str | None
    predicted: int
    empty: int
    failed: int
    refused: int
    last_errors: list[ErrorStatus]


class ActivitySnapshot(TypedDict):
    projects: list[ProjectStatus]
    refused_configs: list[RefusedConfig]


@dataclass
class Project:
    """One project as one model sees it. `config` is what is served, or why nothing is."""

    set_up: str | None = None
    model_version: str | None = None
    config: str | None = None
    predicted: int = 0
    empty: int = 0
    failed: int = 0
    refused: int = 0
    last_errors: deque[ErrorStatus] = field(default_factory=lambda: deque(maxlen=5))


class ProjectActivity:
    """`now` gives the time."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._projects: OrderedDict[tuple[str, str], Project] = OrderedDict()
        self._refusals: deque[RefusedConfig] = deque(maxlen=20)

    def set_up(self, model: str, project: object, version: str, served: str) -> bool:
        """A project was told `version`; `served` says which controls are filled from which texts. True where
        that is news.
        """
        entry = self._entry(model, project)
        news = (entry.model_version, entry.config) != (version, served)
        entry.set_up, entry.model_version, entry.config = self._time(), version, served
        return news

    def predicted(self, model: str, project: object, *, predicted: int, empty: int, failed: int) -> None:
        """Tasks that got a result, had no text (or no label above the threshold), and whose model call
        failed.
        """
        entry = self._entry(model, project)
        entry.predicted += predicted
        entry.empty += empty
        entry.failed += failed

    def refused(self, model: str, project: object, error: PrelabelError) -> None:
        """A request that was refused, or part of one that failed."""
        entry = self._entry(model, project)
        time = self._time()
        entry.last_errors.append(
            {"time": time, "error": type(error).__name__, "status": error.status, "reason": str(error)}
        )
        entry.refused += 1
        if isinstance(error, BadLabelConfig):
            entry.set_up, entry.config = time, str(error)
            self._refusals.append(
                {"time": time, "model": model, "project": name_of(project), "reason": str(error)}
            )

    def snapshot(self, model: str | None = None) -> ActivitySnapshot:
        """Everything, or of one model, for JSON; what was heard of last comes first."""
        projects: list[ProjectStatus] = [
            {
                "project": project,
                "model": name,
                "set_up": entry.set_up,
                "model_version": entry.model_version,
                "config": entry.config,
                "predicted": entry.predicted,
                "empty": entry.empty,
                "failed": entry.failed,
                "refused": entry.refused,
                "last_errors": list(entry.last_errors),
            }
            for (name, project), entry in reversed(self._projects.items())
            if model in (None, name)
        ]
        return {
            "projects": projects,
            "refused_configs": [
                refusal for refusal in reversed(self._refusals) if model in (None, refusal["model"])
            ],
        }

    def _entry(self, model: str, project: object) -> Project:
        key = (model, name_of(project))
        entry = self._projects.setdefault(key, Project())
        self._projects.move_to_end(key)
        if len(self._projects) > MAX_PROJECTS:
            self._projects.popitem(last=False)
        return entry

    def _time(self) -> str:
        return self._now().isoformat(timespec="seconds")


def name_of(project: object) -> str:
    """Label Studio's name for a project, "unknown" for anything else."""
    return project if isinstance(project, str) and PROJECT.fullmatch(project) else "unknown"
