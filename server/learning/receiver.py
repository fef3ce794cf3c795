"""Receives set-ups and webhooks of the projects that learn, and stores them.

The file is used in one thread only: where another process keeps it busy, this delays learning, and no
prediction. What Label Studio sent in vain is fetched later by the process that learns.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NotRequired, ParamSpec, TypedDict, TypeVar

from server.errors import BadLabelConfig, Unavailable
from server.learning.annotations import Annotation
from server.learning.events import Event, EventReader, Kind, storable
from server.learning.questions import Questions
from server.learning.store import LearningProject, LearningStore, Received
from server.threads import in_thread

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PROJECT_NAME = re.compile(r"([1-9]\d{0,17})(\.\d+)?", re.ASCII)
"""Label Studio's name of a project in requests: `<id>.<unix time of its creation>`."""

SET_UP_TIMEOUT = 1.0
"""Seconds that a set-up waits for the file; Label Studio itself waits 3 s for the whole set-up."""

NO_JOB = "none"
"""The job in the answer to a request for training that starts none."""

PART = 250
"""Annotations that are stored at a time, which takes a few milliseconds."""

Served = Callable[[LearningProject], str]
"""The version of the model that a project is served with."""


class ProjectSetUp(TypedDict):
    """Whether annotations of a project are learned: of which control, or why not."""

    learns: bool
    control: NotRequired[str]
    reason: NotRequired[str]


OFF: ProjectSetUp = {
    "learns": False,
    "reason": "This server does not learn; start it with prelabel serve --learn URL.",
}


class LearningAnswer(TypedDict):
    """The answer to a webhook, in the words of the protocol."""

    status: str
    job: NotRequired[str]


@dataclass(frozen=True)
class ReadyToRead:
    """A project that learns, and the reader of its annotations."""

    project: int
    reader: EventReader


class LearningReceiver:
    """Stores what the projects of this server send. `served` is called in a thread; `max_text` is the maximum
    of characters in a text.
    """

    def __init__(self, store: LearningStore, served: Served, max_text: int) -> None:
        self._store = store
        self._served = served
        self._max_text = max_text
        self._questions = Questions()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learning")

    async def set_up(
        self, model: str, name: object, config: str, requested: str | bool
    ) -> ProjectSetUp | None:
        """Store the set-up of the project `name` with the model `model`, if it says something new.
        `requested` is what `requested_learning` returned. None for a project that does not want to learn.

        A set-up also has to work for projects that only want predictions, so a file that cannot be used, or
        not in time, is a reason in the answer.
        """
        number = _number(name)
        if number is None:
            reason = "The project's name is none of Label Studio's, which begins with the project's number."
            return {"learns": False, "reason": reason} if requested else None
        control = storable(requested) if isinstance(requested, str) else None
        learns = requested is not False
        project = LearningProject(number, model, str(name), storable(config), control, learns)
        try:
            async with asyncio.timeout(SET_UP_TIMEOUT):
                return await self._in_thread(self._set_up, project)
        except (TimeoutError, Unavailable) as error:
            reason = str(error) or "The file of learned annotations is busy; the next set-up tries again."
            log.warning("project %d: its set-up was not stored: %s", number, reason)
            return {"learns": False, "reason": reason} if requested else None

    async def receive(self, event: Event) -> LearningAnswer:
        """Raises Unavailable if the file cannot be used, and what iterating the event's lists raises.

        Many annotations are stored a part at a time, so that other webhooks need not wait for all of them.
        """
        found = await self._in_thread(self._receive, event)
        if not isinstance(found, ReadyToRead):
            return found
        annotations = await in_thread(found.reader.annotations, event)
        parts = [annotations[at : at + PART] for at in range(0, len(annotations), PART)]
        received = [await self._in_thread(self._store_part, found.project, part) for part in parts]
        return _stored(*received)

    async def close(self) -> None:
        """Finishes what was received."""
        await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    def _set_up(self, project: LearningProject) -> ProjectSetUp | None:
        known = self._store.project(project.id)
        if not project.learns:
            # of several ML backends of a project, only the one that learns can end it
            if known is not None and known.learns and known.model == project.model:
                self._store.set_up(project)
                log.info("project %d no longer learns", project.id)
            return None
        learning: ProjectSetUp
        try:
            control = self._questions.read(project.config, project.control).answers.name
            learning = {"learns": True, "control": control}
        except BadLabelConfig as error:
            project, learning = replace(project, learns=False), {"learns": False, "reason": str(error)}
        if known is None or _set_up_fields(known) != _set_up_fields(project):
            self._store.set_up(project)
            log.info(
                "project %d: %s", project.id, f"learns {control}" if project.learns else learning["reason"]
            )
        return learning

    def _receive(self, event: Event) -> LearningAnswer | ReadyToRead:
        """Raises Unavailable, and what iterating the event's lists raises."""
        if event.kind is Kind.OTHER:
            return {"status": "ignored: nothing is learned from this action"}
        job: LearningAnswer = {"status": "", "job": NO_JOB} if event.kind is Kind.TRAIN else {"status": ""}
        number = event.project_id
        if number is None:
            return {**job, "status": "ignored: it names no project; webhooks must be sent with their payload"}
        project = self._store.project(number)
        if project is None or not project.learns:
            reason = f"ignored: project {number} does not learn; prelabel connect --learn switches it on"
            return {**job, "status": reason}
        if event.kind is Kind.TRAIN:
            self._store.request_training(number)
            log.info("project %d: training was requested", number)
            return {"status": f"training of project {number} was requested", "job": f"project-{number}"}
        if event.kind is Kind.DELETE:
            return _stored(self._store.receive(number, (), event.annotation_ids()))
        if event.kind is Kind.DELETE_TASKS:
            return _stored(self._store.receive(number, (), (), event.task_ids()))
        try:
            question = self._questions.read(event.config or project.config, project.control)
        except BadLabelConfig as error:
            return {"status": f"ignored: {error}"}
        return ReadyToRead(number, EventReader(question, self._max_text, self._served(project)))

    def _store_part(self, number: int, annotations: list[Annotation]) -> Received:
        """Nothing, if the project was forgotten in the meantime."""
        project = self._store.project(number)
        if project is None or not project.learns:
            return Received()
        return self._store.receive(number, annotations)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *args, **kwargs))


def _number(name: object) -> int | None:
    """The number of a project by its name."""
    found = PROJECT_NAME.fullmatch(name) if isinstance(name, str) else None
    return int(found[1]) if found else None


def _set_up_fields(project: LearningProject) -> tuple[object, ...]:
    return project.model, project.name, project.config, project.control, project.learns


def _stored(*received: Received) -> LearningAnswer:
    added, changed = sum(each.added for each in received), sum(each.changed for each in received)
    deleted = sum(each.deleted for each in received)
    return {"status": f"stored: {added} new, {changed} changed, {deleted} deleted"}
