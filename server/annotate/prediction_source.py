"""Tasks → predictions: what every source of predictions is, and the source that runs the model here.

tasks [{"id", "data"}] ─▶ source ─▶ one prediction per task, in order, None where there is none
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from server.annotate.bisect_batch import BatchRefused, bisect
from server.label_studio.labeling_config import read_plan
from server.label_studio.predictions import Prediction
from server.label_studio.project_tasks import PAGE, Task
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.truncation import Truncation
from server.settings import Settings

NO_PREDICTION = "the response has no usable prediction for this task"


@dataclass(frozen=True)
class PredictionSource:
    """`predict` takes at most `batch` tasks and raises BatchRefused where one of them may be the cause.
    `truncated` returns the number of texts so far that the model truncated, by `truncation` if that is known.
    """

    version: str
    predict: Callable[[list[Task]], list[Prediction | None]]
    batch: int
    truncated: Callable[[], int] = int
    truncation: Truncation | None = None

    def answers(self, tasks: list[Task]) -> tuple[dict[int, Prediction], dict[int, str]]:
        """(task id → prediction, task id → reason for the tasks that failed). A bad task costs only
        itself.
        """
        predicted: dict[int, Prediction] = {}
        failed: dict[int, str] = {}

        def attempt(part: list[Task]) -> None:
            for task, prediction in zip(part, self.predict(part), strict=True):
                if prediction is None:
                    failed[task["id"]] = NO_PREDICTION
                else:
                    predicted[task["id"]] = prediction

        for first in range(0, len(tasks), self.batch):
            for task, reason in bisect(tasks[first : first + self.batch], attempt):
                failed[task["id"]] = reason
        return predicted, failed


OpenSource = Callable[[int, str], PredictionSource]
"""Project id and labeling config → the source for them."""


@contextmanager
def open_bundle(settings: Settings) -> Iterator[OpenSource]:
    """The model in this process. Raises BadBundle, BadSetting; the yielded function raises BadLabelConfig."""
    with open_classifier(settings) as classifier:
        labels = classifier.bundle.labels
        yield lambda _, config: local_source(
            Labeler(classifier, read_plan(config, labels, settings.label_map), settings.scoring)
        )


def local_source(labeler: Labeler) -> PredictionSource:
    """The model in this process. The labeler's classifier must be open."""

    def predict(tasks: list[Task]) -> list[Prediction | None]:
        try:
            predictions = labeler.predictions([labeler.plan.texts(task["data"]) for task in tasks])
        except Exception as error:  # engines raise many unrelated types
            raise BatchRefused(f"the model call failed ({type(error).__name__})") from error
        return [prediction if is_usable_score(prediction["score"]) else None for prediction in predictions]

    classifier = labeler.classifier
    return PredictionSource(
        labeler.version, predict, PAGE, lambda: classifier.truncated, Truncation.of(classifier.bundle)
    )


def is_usable_score(score: Any) -> bool:
    """Label Studio rejects a whole list for one score that is not a number, and fails later on NaN."""
    return score is None or (isinstance(score, int | float) and math.isfinite(score))
