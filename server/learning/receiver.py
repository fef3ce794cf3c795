"""Stores what Label Studio says: which projects learn, and what was annotated."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from server.errors import BadLabelConfig
from server.learning.events import DELETED, TRAINING, WRITTEN, Event, project_of, question_of, read_event
from server.learning.store import LearningProject, LearningStore
from server.threads import in_thread

log = logging.getLogger(__name__)

NO_EVENT = "ignored: not an event that this server learns from"
NOT_LEARNING = (
    "ignored: the project does not learn; switch it on with `prelabel connect --learn`, or with "
    '{"learn": true} in the extra parameters of its ML backend'
)

MAX_KNOWN = 1_000
"""Set-ups that are kept in memory."""


@dataclass(frozen=True)
class Reply:
    """`job` names the training that was asked for."""

    status: str
    job: str | None = None


class LearningReceiver:
    """Stores set-ups and events in `store`. `served` returns the version that a project is answered with, for
    the name of a model and a project's. A text of more than `max_text` characters is not learned.
    """

    def __init__(self, store: LearningStore, served: Callable[[str, str], str], max_text: int) -> None:
        self._store = store
        self._served = served
        self._max_text = max_text
        self._known: dict[int, LearningProject] = {}
        """As they were last set up in this process; most set-ups repeat the one before."""

    async def set_up(self, project: LearningProject) -> bool:
        """Remember a project, if it learns or did; True if that is new. Raises Unavailable."""
        if self._known.get(project.id) == project:
            return False
        stored = await in_thread(self._store.project, project.id)
        if project.learns or stored is not None:
            await in_thread(self._store.set_up, project)
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known[project.id] = project
        return project.learns or stored is not None

    async def receive(self, fields: dict[str, Any]) -> Reply:
        """Store an event, which is a webhook's body. Raises Unavailable."""
        number = project_of(fields)
        if fields.get("action") not in (*WRITTEN, *DELETED, TRAINING) or number is None:
            return Reply(NO_EVENT)
        project = await in_thread(self._store.project, number)
        if project is None or not project.learns:
            return Reply(NOT_LEARNING)
        if fields["action"] == TRAINING:
            await in_thread(self._store.request_training, number)
            return Reply("training begins", f"project {number}")
        return await in_thread(self._store_event, fields, project)

    def _store_event(self, fields: dict[str, Any], project: LearningProject) -> Reply:
        try:
            event = self._read(fields, project)
        except BadLabelConfig as error:
            return Reply(f"ignored: {error}")
        served = self._served(project.model, project.name)
        annotations = [replace(each, served=served) for each in event.annotations]
        found = self._store.receive(project.id, annotations, event.deleted)
        unreadable = f", {event.unreadable} unreadable" if event.unreadable else ""
        return Reply(f"{found.added} new, {found.changed} changed, {found.deleted} deleted{unreadable}")

    def _read(self, fields: dict[str, Any], project: LearningProject) -> Event:
        """Raises BadLabelConfig."""
        config = fields["project"].get("label_config")
        question = question_of(config if isinstance(config, str) else project.config, project.control)
        return read_event(fields, question, self._max_text)
