"""`prelabel annotate --accept-above`: makes annotations of predictions that are certain enough.

Only of tasks without any annotation, so that the command can be stopped and run again. Each region carries
the version of the model that made it: people can find such annotations, and the learner does not learn from
them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from server.annotate.background import Stopped, StopRequest, in_background
from server.annotate.options import AnnotateOptions
from server.annotate.prediction_source import PredictionSource
from server.annotate.task_query import UNLABELED
from server.errors import LabelStudioRefused
from server.label_studio.api_client import Api
from server.label_studio.made_by_model import marked
from server.label_studio.predictions import Prediction
from server.label_studio.project_tasks import PAGE, task_pages

SECONDS = 60.0
"""Timeout for storing an annotation."""


@dataclass
class AcceptResult:
    """`looked_at` counts tasks without an annotation; `failed`: task id → reason."""

    version: str
    looked_at: int = 0
    accepted: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    finished: bool = False

    @property
    def left_to_people(self) -> int:
        return self.looked_at - self.accepted - len(self.failed)


@dataclass(frozen=True)
class AcceptRun:
    """One run over a project. `on_progress` is called after each task that gets an annotation."""

    api: Api
    options: AnnotateOptions
    stop: StopRequest
    on_progress: Callable[[AcceptResult], None]

    def run(self, source: PredictionSource) -> AcceptResult:
        """Annotate. Raises LabelStudioRefused, LabelStudioUnreachable, BackendFailed."""
        result = AcceptResult(source.version)
        pages = task_pages(
            self.api.get, self.options.project, (UNLABELED,), page_size=PAGE, include="id,data", review="true"
        )
        try:
            for _, page in pages:
                predictions, failed = self.stop.result_of(in_background(partial(source.answers, page)))
                result.looked_at += len(page)
                result.failed |= failed
                for task, prediction in predictions.items():
                    if is_certain(prediction, self.options.accept_above):
                        self._accept(task, prediction, result)
            result.finished = True
        except Stopped:
            pass
        return result

    def _accept(self, task: int, prediction: Prediction, result: AcceptResult) -> None:
        """Raises Stopped."""
        if not self.options.dry_run:
            body = {"result": marked(prediction["result"], result.version)}
            store = partial(
                self.api.call, "POST", f"tasks/{task}/annotations/", json=body, timeout=SECONDS, retries=0
            )
            try:
                self.stop.result_of(in_background(store))
            except LabelStudioRefused as error:
                result.failed[task] = str(error)
                return
        result.accepted += 1
        self.on_progress(result)


def is_certain(prediction: Prediction, above: float | None) -> bool:
    """Whether the prediction has a result, and a score of at least `above`."""
    return above is not None and bool(prediction.get("result")) and prediction.get("score", 0.0) >= above
