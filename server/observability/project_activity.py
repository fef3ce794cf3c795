"""Recent activity per project, shown at GET /, because Label Studio hides backend errors.

Bounded and in memory. It contains Label Studio's project names, counts, times and error messages, but no task
texts, labeling configs or credentials.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypedDict

from server.errors import BadLabelConfig, PrelabelError, one_line

PROJECT = re.compile(r"[\w.-]{1,100}", re.ASCII)
"""Label Studio names a project `<id>.<unix time of its creation>`."""

MAX_TEXT = 500
"""Characters of a text in it: with all errors of all projects, GET / is a few megabytes at most."""

MAX_PROJECTS = 1_000
"""Maximum number of projects kept; the least recently active one is evicted."""


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
    """A `ProjectCounts` as JSON, with its name and that of its model."""

    project: str
    model: str
    set_up: str | None
    model_version: str | None
    config: str | None
    learning: str | None
    predicted: int
    empty: int
    empty_because: str | None
    failed: int
    truncated: int
    refused: int
    last_errors: list[ErrorStatus]


class ActivitySnapshot(TypedDict):
    projects: list[ProjectStatus]
    refused_configs: list[RefusedConfig]


@dataclass
class ProjectCounts:
    """One project with one model. `config` lists the controls that get predictions, or says why none does;
    `empty_because` says why no task of the last request has a text. `truncated` counts texts, `refused`
    requests, the others tasks. `learning` names the control that is learned, or says why none is; None for a
    project that does not want to learn.
    """

    set_up: str | None = None
    model_version: str | None = None
    config: str | None = None
    learning: str | None = None
    predicted: int = 0
    empty: int = 0
    empty_because: str | None = None
    failed: int = 0
    truncated: int = 0
    refused: int = 0
    last_errors: deque[ErrorStatus] = field(default_factory=lambda: deque(maxlen=5))


class ProjectActivity:
    """`now` returns the current time."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._projects: OrderedDict[tuple[str, str], ProjectCounts] = OrderedDict()
        self._refused_configs: deque[RefusedConfig] = deque(maxlen=20)

    def set_up(self, model: str, project: object, version: str, served: str) -> bool:
        """`project` was set up with the model version `version`; `served` says which controls are predicted
        from which texts. True if either has changed.
        """
        entry, served = self._entry(model, project), _shortened(served)
        changed = (entry.model_version, entry.config) != (version, served)
        entry.set_up, entry.model_version = self._time(), version
        self._config_works(model, project, entry, served)
        return changed

    def learning(self, model: str, project: object, learning: str | None) -> None:
        """At the set-up of `project`: the control that is learned, or why none is."""
        self._entry(model, project).learning = None if learning is None else _shortened(learning)

    def predicted(
        self,
        model: str,
        project: object,
        *,
        predicted: int,
        empty: int,
        failed: int,
        truncated: int = 0,
        config: str | None = None,
        empty_because: str | None = None,
    ) -> None:
        """Count tasks with a result, tasks without text or without a label above the threshold, and tasks
        whose model call failed, and texts that were truncated. `config` says which controls were predicted
        from which texts; None for a request without a labeling config.
        """
        entry = self._entry(model, project)
        if config is not None:
            self._config_works(model, project, entry, _shortened(config))
        entry.empty_because = None if empty_because is None else _shortened(empty_because)
        entry.predicted += predicted
        entry.empty += empty
        entry.failed += failed
        entry.truncated += truncated

    def on_error(self, model: str, project: object, error: PrelabelError) -> None:
        """A request, or a part of one, ended in `error`."""
        entry = self._entry(model, project)
        time = self._time()
        entry.last_errors.append(
            {"time": time, "error": type(error).__name__, "status": error.status, "reason": _shortened(error)}
        )
        entry.refused += 1
        if isinstance(error, BadLabelConfig):
            entry.set_up, entry.config = time, _shortened(error)
            self._refused_configs.append(
                {"time": time, "model": model, "project": name_of(project), "reason": _shortened(error)}
            )

    def snapshot(self, model: str | None = None) -> ActivitySnapshot:
        """The activity of all projects, or those of one model; the latest first."""
        projects: list[ProjectStatus] = [
            {
                "project": project,
                "model": name,
                "set_up": entry.set_up,
                "model_version": entry.model_version,
                "config": entry.config,
                "learning": entry.learning,
                "predicted": entry.predicted,
                "empty": entry.empty,
                "empty_because": entry.empty_because,
                "failed": entry.failed,
                "truncated": entry.truncated,
                "refused": entry.refused,
                "last_errors": list(entry.last_errors),
            }
            for (name, project), entry in reversed(self._projects.items())
            if model in (None, name)
        ]
        return {
            "projects": projects,
            "refused_configs": [
                refused for refused in reversed(self._refused_configs) if model in (None, refused["model"])
            ],
        }

    def _entry(self, model: str, project: object) -> ProjectCounts:
        key = (model, name_of(project))
        entry = self._projects.setdefault(key, ProjectCounts())
        self._projects.move_to_end(key)
        if len(self._projects) > MAX_PROJECTS:
            self._projects.popitem(last=False)
        return entry

    def _config_works(self, model: str, project: object, entry: ProjectCounts, config: str) -> None:
        """The labeling config of the project works: why nothing was served before is no longer true."""
        if entry.config != config:
            entry.config = config
            mine = (model, name_of(project))
            kept = [each for each in self._refused_configs if (each["model"], each["project"]) != mine]
            self._refused_configs = deque(kept, self._refused_configs.maxlen)

    def _time(self) -> str:
        return self._now().isoformat(timespec="seconds")


def _shortened(text: object) -> str:
    return one_line(str(text), MAX_TEXT)


def name_of(project: object) -> str:
    """`project` if it is a project name of Label Studio, otherwise "unknown"."""
    return project if isinstance(project, str) and PROJECT.fullmatch(project) else "unknown"
