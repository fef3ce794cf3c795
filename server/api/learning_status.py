"""What the server has learned in each project, as GET / and the metrics show it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypedDict

from server.evaluate.classification_metrics import wilson
from server.learning.store import Agreement, LearningProject, LearningStore

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
