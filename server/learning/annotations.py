"""One annotation of a task: what the store keeps, and what a model learns from."""

from dataclasses import dataclass, field

UNTRAINED = "-untrained"
"""Ends the model version of a project whose labels no model has yet."""


@dataclass(frozen=True)
class Annotation:
    """One annotator's labels for the text of a task, in one version of the annotation.

    `id`, `task` and `annotator` are Label Studio's numbers; `annotator` is 0 where it names none. `labels`
    are sorted. `updated` is Label Studio's time of the version, in ISO 8601 and UTC, so that texts compare as
    times do. `served` is the version of the model that was served when this was received, "" for none, and
    `predicted` the labels that it gives the text, None until they are known.
    """

    id: int
    task: int
    annotator: int
    text: str = field(repr=False)
    labels: tuple[str, ...]
    updated: str
    served: str = ""
    predicted: tuple[str, ...] | None = None


@dataclass(frozen=True)
class OutOfFold:
    """What a model gave an annotation that it was not fitted on: the log of the probability of its labels,
    and whether it would have chosen them.
    """

    log_probability: float
    right: bool
