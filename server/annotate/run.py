"""The loop of `prelabel annotate`: fetch tasks, predict, store predictions.

    Label Studio ─▶ pages of tasks ─▶ source ─▶ predictions ─▶ batches ─▶ Label Studio

The next page is fetched while the current one is predicted. Texts are dropped once predicted: memory holds
two pages of tasks and one batch of predictions. There is no state file: a task that has the version is done,
so a stopped run continues when the command is run again.

A stop request ends fetching and predicting at once, and stores what is predicted.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, sleep
from typing import Any

from server.annotate.background import Stopped, StopRequest, in_background
from server.annotate.options import AnnotateOptions
from server.annotate.prediction_source import OpenSource, PredictionSource
from server.annotate.task_query import MissingPredictions, select_tasks
from server.annotate.upload import Item, Uploader
from server.errors import LabelStudioUnreachable, PrelabelError
from server.label_studio.api_client import Api
from server.label_studio.predictions import Prediction
from server.label_studio.project_tasks import PAGE, Task, read_project
from server.offline.truncation import truncation_sentence

UPLOAD_SECONDS = 900.0
"""Timeout for storing a batch: long, because Label Studio goes on storing after a timeout, unseen."""


@dataclass
class AnnotateResult:
    """What a run has done so far.

    `total`: tasks selected, None if not counted; `found`: tasks without the version, an upper bound until all
    are listed; `failed`: task id → reason; `truncated` counts texts, and `truncation` is a sentence on them;
    `seconds` by stage, where fetching overlaps predicting.
    """

    version: str
    total: int | None
    found: int = 0
    predicted: int = 0
    stored: int = 0
    without_text: int = 0
    truncated: int = 0
    truncation: str = ""
    failed: dict[int, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"fetch": 0.0, "predict": 0.0, "store": 0.0})
    elapsed: float = 0.0
    stopped: bool = False
    finished: bool = False
    shown_version: str = ""
    """The version whose scores Label Studio shows."""


@dataclass(frozen=True)
class PredictedPage:
    """`predictions` by task id; `failed`: task id → reason; `truncated` counts texts."""

    predictions: dict[int, Prediction]
    failed: dict[int, str]
    truncated: int
    seconds: float


class AnnotateRun:
    """One run over one project. `result` is None until the project has been read.

    `stop` may be set from another thread. `on_progress` is called after each page and each batch.
    """

    def __init__(
        self,
        api: Api,
        options: AnnotateOptions,
        *,
        stop: StopRequest,
        on_progress: Callable[[AnnotateResult], None],
    ) -> None:
        self._api = api
        self._options = options
        self._stop = stop
        self._on_progress = on_progress
        self.result: AnnotateResult | None = None

    def run(self, open_source: OpenSource) -> None:
        """Annotate the project with the source that `open_source` opens. Raises PrelabelError."""
        started = perf_counter()
        project = read_project(self._api.get, self._options.project)
        source = open_source(self._options.project, project["label_config"])
        tasks, versions = self._missing_predictions(project, source.version)
        all_tasks = self._options.view is None and not self._options.only_unlabeled
        self.result = result = AnnotateResult(
            source.version,
            project["task_number"] if all_tasks else tasks.total(),
            shown_version=project["model_version"] or "",
        )
        try:
            self._annotate(tasks, source, result)
            if not result.shown_version and (result.stored or source.version in versions):
                self._show_version(result)
            result.finished = not result.stopped
        finally:
            result.elapsed = perf_counter() - started
            if result.truncated:
                result.truncation = truncation_sentence(result.truncated, source.truncation)

    def _missing_predictions(
        self, project: dict[str, Any], version: str
    ) -> tuple[MissingPredictions, list[str]]:
        """The tasks to annotate, and the versions of the predictions that the project has."""
        options, get = self._options, self._api.get
        versions = (
            list(get(f"projects/{options.project}/model-versions/"))
            if project["total_predictions_number"]
            else []
        )
        selected = select_tasks(get, options.project, options.view, only_unlabeled=options.only_unlabeled)
        review = bool(project["evaluate_predictions_automatically"])
        page = min(PAGE, options.batch)
        return MissingPredictions(
            get, options.project, version, selected, versions, page, review=review
        ), versions

    def _annotate(self, tasks: MissingPredictions, source: PredictionSource, result: AnnotateResult) -> None:
        """Fetch, predict and store until all tasks are done or a stop is requested."""
        upload = Uploader(self._post, tasks.among, sleep)
        pages = tasks.pages()
        predicted: list[Item] = []
        listed = 0

        def fetch() -> tuple[list[Task] | None, float]:
            started = perf_counter()
            return next(pages, None), perf_counter() - started

        try:
            fetching = in_background(fetch)
            while True:
                page, seconds = self._stop.result_of(fetching)
                result.seconds["fetch"] += seconds
                if page is None:
                    break
                fetching = in_background(fetch)
                result.found = tasks.found
                listed += len(page)
                predicting = in_background(partial(_predict, source, page))
                predicted += _count(self._stop.result_of(predicting), result)
                self._on_progress(result)
                if len(predicted) >= self._options.batch:
                    batch, predicted = predicted, []
                    self._store(batch, upload, result)
            result.found = listed
        except Stopped:
            result.stopped = True
        except LabelStudioUnreachable:
            raise
        except PrelabelError:
            # the backend's failure is the one to report; Label Studio can still store what is predicted
            with suppress(PrelabelError):
                self._store(predicted, upload, result)
            raise
        self._store(predicted, upload, result)

    def _store(self, items: list[Item], upload: Uploader, result: AnnotateResult) -> None:
        if self._options.dry_run or not items:
            return
        started = perf_counter()
        failed = upload(items)
        result.seconds["store"] += perf_counter() - started
        result.failed |= failed
        result.stored += len(items) - len(failed)
        self._on_progress(result)

    def _post(self, items: list[Item]) -> int:
        path = f"projects/{self._options.project}/import/predictions"
        # no retries in the client: the uploader first asks what a lost response has stored
        created: int = self._api.call("POST", path, json=items, timeout=UPLOAD_SECONDS, retries=0)["created"]
        return created

    def _show_version(self, result: AnnotateResult) -> None:
        """Make Label Studio show the scores of this version, in a project that shows none yet."""
        if self._options.dry_run:
            return
        self._api.call("PATCH", f"projects/{self._options.project}", json={"model_version": result.version})
        result.shown_version = result.version


def _predict(source: PredictionSource, page: list[Task]) -> PredictedPage:
    truncated, started = source.truncated(), perf_counter()
    predictions, failed = source.answers(page)
    return PredictedPage(predictions, failed, source.truncated() - truncated, perf_counter() - started)


def _count(page: PredictedPage, result: AnnotateResult) -> list[Item]:
    """Add a page to the result; its predictions as items to store."""
    result.seconds["predict"] += page.seconds
    result.failed |= page.failed
    result.predicted += len(page.predictions)
    result.truncated += page.truncated
    result.without_text += sum(not prediction["result"] for prediction in page.predictions.values())
    return [{"task": task, **prediction} for task, prediction in page.predictions.items()]
