"""Online learning, for the endpoints: set-ups, events, and what GET / shows of each project that learns."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from server.evaluate.classification_metrics import wilson
from server.learning.events import Event
from server.learning.receiver import LearningAnswer, LearningReceiver, ProjectSetUp
from server.learning.store import Agreement, LearningProject, LearningStore
from server.models.learned import LearnedModels
from server.threads import in_thread

LATEST = 100
"""Annotations of the agreement that is called the latest."""


class Share(TypedDict):
    """`agreed` of `total` annotations have the labels that the model had predicted; `interval_95` is that of
    their share.
    """

    agreed: int
    total: int
    share: float | None
    interval_95: tuple[float, float] | None


class ProjectLearning(TypedDict):
    """`serves` is the learned model that answers, None while there is none. `last_round` is the report of the
    last round: what was tried, whether it was accepted, and why.
    """

    project: str
    model: str
    frozen: bool
    serves: str | None
    previous: str | None
    annotations: int
    agreement: Share
    latest_agreement: Share
    agreement_by_label: dict[str, Share]
    agreement_by_annotator: dict[str, Share]
    rounds: dict[str, int]
    last_round: dict[str, Any] | None


@dataclass(frozen=True)
class Learning:
    """What a server that learns has besides its models."""

    store: LearningStore
    receiver: LearningReceiver
    models: LearnedModels

    async def set_up(
        self, model: str, project: object, config: str, requested: str | bool
    ) -> ProjectSetUp | None:
        """As `LearningReceiver.set_up`; a project that begins to learn is known from now on."""
        found = await self.receiver.set_up(model, project, config, requested)
        if found is not None and found["learns"] and not self.models.learns(str(project)):
            await self.models.follow()
        return found

    async def receive(self, event: Event) -> LearningAnswer:
        """As `LearningReceiver.receive`."""
        return await self.receiver.receive(event)

    async def status(self, model: str) -> list[ProjectLearning]:
        """The projects that learn under the name `model`. Raises Unavailable."""
        return [each for each in await in_thread(learning_status, self.store) if each["model"] == model]


def learning_status(store: LearningStore) -> list[ProjectLearning]:
    """All projects that learn. Blocks. Raises Unavailable."""
    return [_status(store, project) for project in store.projects() if project.learns]


def _status(store: LearningStore, project: LearningProject) -> ProjectLearning:
    agreement = store.agreement(project.id)
    agreed, total = sum(each.agreed for each in agreement), sum(each.total for each in agreement)
    rounds = store.rounds(project.id, 1)
    return {
        "project": project.name,
        "model": project.model,
        "frozen": project.frozen,
        "serves": project.served or None,
        "previous": project.previous or None,
        "annotations": store.count(project.id),
        "agreement": share(agreed, total),
        "latest_agreement": share(*store.latest_agreement(project.id, LATEST)),
        "agreement_by_label": _by((", ".join(each.labels), each) for each in agreement),
        "agreement_by_annotator": _by((str(each.annotator), each) for each in agreement),
        "rounds": store.decisions(project.id),
        "last_round": rounds[-1] if rounds else None,
    }


def share(agreed: int, total: int) -> Share:
    if not total:
        return {"agreed": 0, "total": 0, "share": None, "interval_95": None}
    return {
        "agreed": agreed,
        "total": total,
        "share": agreed / total,
        "interval_95": wilson(agreed, total),
    }


def _by(named: Iterable[tuple[str, Agreement]]) -> dict[str, Share]:
    agreed, total = Counter[str](), Counter[str]()
    for name, each in named:
        agreed[name] += each.agreed
        total[name] += each.total
    return {name: share(agreed[name], total[name]) for name in sorted(total)}
