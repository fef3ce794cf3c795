"""New predictions for the tasks of a project, in the order in which they are worth annotating."""

from collections.abc import Sequence

from export.learning.order import features_of, usefulness
from export.learning.project_model import probabilities
from server.annotate.upload import Item
from server.arrays import Floats
from server.bundle import Bundle
from server.label_studio.labeling_config import LabelingPlan
from server.label_studio.predictions import predictions
from server.label_studio.project_tasks import Task
from server.learning.triggers import Order
from server.scoring import Scoring


def new_predictions(
    tasks: Sequence[Task], plan: LabelingPlan, bundle: Bundle, version: str, rule: Order, scoring: Scoring
) -> list[Item]:
    """One prediction of `version` for each task with a text. The score is a rank: 0 is the task to annotate
    next, as Label Studio's uncertainty sampling takes the lowest first.
    """
    texts = [plan.texts(task["data"]) for task in tasks]
    with_text = [(task, each) for task, each in zip(tasks, texts, strict=True) if any(each)]
    present = [text for _, each in with_text for text in each if text is not None]
    if not present:
        return []
    values = probabilities(bundle, present)
    ranks = usefulness(values, features_of(present), rule)
    shown: Floats = values.astype("float32")
    found = predictions(plan, version, [each for _, each in with_text], shown, ranks, scoring.threshold)
    return [{"task": task["id"], **each} for (task, _), each in zip(with_text, found, strict=True)]
