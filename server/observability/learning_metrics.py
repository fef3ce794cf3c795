"""Metrics of learning, read from the store at each scrape."""

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from server.learning.store import LearningStore

MAX_PROJECTS = 100
"""Projects with metrics of their own."""

LATEST = 100
"""Annotations of the agreement."""


def learning_metrics(store: LearningStore) -> Iterable[Metric]:
    """Of each project that learns. Blocks for well under a millisecond a project. Raises Unavailable."""
    annotations = GaugeMetricFamily(
        "prelabel_learning_annotations", "Annotations that the project learns from.", labels=["project"]
    )
    agreement = GaugeMetricFamily(
        "prelabel_learning_agreement_ratio",
        f"Share of the latest {LATEST} annotations with the labels that the model had predicted.",
        labels=["project"],
    )
    rounds = CounterMetricFamily(
        "prelabel_learning_rounds",
        "Rounds of learning, by what became of the new model.",
        labels=["project", "decision"],
    )
    for project in [project for project in store.projects() if project.learns][:MAX_PROJECTS]:
        annotations.add_metric([project.name], store.count(project.id))
        agreed, total = store.latest_agreement(project.id, LATEST)
        if total:
            agreement.add_metric([project.name], agreed / total)
        for decision, number in store.decisions(project.id).items():
            rounds.add_metric([project.name, decision], number)
    return [annotations, agreement, rounds]
