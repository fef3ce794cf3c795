"""What answers a project now, and what it gives the answers of a round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.encoders.base import Numbers
from export.learning.answers import Answers, out_of_fold_of
from export.learning.features import FeatureCache
from server.bundle import Bundle
from server.learning.annotations import OutOfFold


@dataclass(frozen=True)
class Served:
    """What answers now for this project: `names` are its labels for the classes of the bundle. `out_of_fold`
    has, by number of the annotation, what it gave those that it was fitted on while it was not; for others,
    what it gives now is honest.
    """

    version: str
    bundle: Bundle
    names: Sequence[str]
    out_of_fold: Mapping[int, OutOfFold]


def by_label(values: Numbers, names: Sequence[str], labels: Sequence[str]) -> Numbers:
    """Probabilities float64[rows, labels] from those of classes with these names; 0 for other labels."""
    found = np.zeros((len(values), len(labels)))
    for column, name in enumerate(names):
        if name in labels:
            found[:, labels.index(name)] += values[:, column]
    return found


def served_out_of_fold(answers: Answers, served: Served, cache: FeatureCache) -> list[OutOfFold]:
    """What the served model gives each answer that it was not fitted on, or gave it while it was not."""
    direct = [each for each in answers.annotations if each.id not in served.out_of_fold]
    values = cache.answers(served.bundle, [each.text for each in direct])
    unknown = answers.of(np.array([each.id not in served.out_of_fold for each in answers.annotations]))
    own = iter(out_of_fold_of(by_label(values, served.names, answers.labels), unknown))
    return [served.out_of_fold.get(each.id) or next(own) for each in answers.annotations]
