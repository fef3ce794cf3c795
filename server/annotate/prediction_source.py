"""Where predictions for tasks come from.

    tasks [{"id", "data"}] ─▶ source ─▶ predictions, one a task, in order, None where there is none

Here is what every source is, and the one that is the model in this process; an ML backend is another.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from server.annotate.bisect_batch import BatchRefused, bisect
from server.annotate.task_query import PAGE, Task
from server.label_studio.labeling_config import read_plan
from server.label_studio.predictions import Prediction
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.settings import Settings

NO_ANSWER = "there is no usable prediction for it in the answer"


@dataclass(frozen=True)
class PredictionSource:
    """`predict` takes up to `batch` tasks; it raises BatchRefused where one of them may be at fault."""

    version: str
    predict: Callable[[list[Task]], list[Prediction | None]]
    batch: int

    def answers(self, tasks: list[Task]) -> tuple[dict[int, Prediction], dict[int, str]]:
        """(task id → prediction, task id → why there is none); a bad task costs only itself."""
        found: dict[int, Prediction] = {}
        failed: dict[int, str] = {}

        def attempt(part: list[Task]) -> None:
            for task, prediction in zip(part, self.predict(part), strict=True):
                if prediction is None:
                    failed[task["id"]] = NO_ANSWER
                else:
                    found[task["id"]] = prediction

        for first in range(0, len(tasks), self.batch):
            for task, reason in bisect(tasks[first : first + self.batch], attempt):
                failed[task["id"]] = reason
        return found, failed


OpenSource = Callable[[int, str], PredictionSource]
"""Project id and labeling config → its source."""


@contextmanager
def open_bundle(settings: Settings) -> Iterator[OpenSource]:
    """The bundle, engine and score that the settings name, in this process. Raises BadBundle, BadSetting;
    what it yields BadLabelConfig.
    """
    with open_classifier(settings) as classifier:
        labels = classifier.bundle.labels
        yield lambda _, config: in_process(
            Labeler(classifier, read_plan(config, labels, settings.label_map), settings.scoring)
        )


def in_process(labeler: Labeler) -> PredictionSource:
    """The model in this process; its classifier must be in use."""

    def predict(tasks: list[Task]) -> list[Prediction | None]:
        try:
            predictions = labeler.predictions([labeler.plan.texts(task["data"]) for task in tasks])
        except Exception as error:  # engines raise many unrelated types
            raise BatchRefused(f"the model call failed ({type(error).__name__})") from error
        return [prediction if usable_score(prediction["score"]) else None for prediction in predictions]

    return PredictionSource(labeler.version, predict, PAGE)


def usable_score(score: Any) -> bool:
    """Label Studio fails the whole list for a score that is no number, and chokes on one that is not finite."""
    return score is None or (isinstance(score, int | float) and math.isfinite(score))
