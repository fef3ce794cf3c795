"""Predictions for the tasks of a Label Studio project, stored in bulk.

    Label Studio ─▶ pages of tasks ─▶ source ─▶ predictions ─▶ batches ─▶ Label Studio

A page is fetched while the one before is predicted. Texts are dropped once predicted: what is held is two
pages of tasks and one batch of predictions. Nothing is written down: a task that carries the version is done,
so a run that was stopped goes on when it is run again.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from server.annotate.prediction_source import PredictionSource
from server.annotate.task_query import NOT_FOUND, PAGE, MissingPredictions, Task, chosen_tasks
from server.annotate.upload import Item, Uploader
from server.errors import BadSetting, LabelStudioRefused
from server.label_studio.api_client import Api

PUSH_SECONDS = 900.0
"""How long a batch may take; Label Studio goes on storing what nobody waits for any more, so better wait."""


@dataclass(frozen=True)
class AnnotateOptions:
    """`batch`: predictions in one request. Label Studio counts all of the project's tasks anew after each, so
    a few large ones are fastest.
    """

    project: int
    batch: int
    view: int | None = None
    only_unlabeled: bool = False
    dry_run: bool = False


@dataclass
class AnnotateResult:
    """What a run did so far.

    `total`: the tasks it was to look at, None where that was not counted; `found`: those without the version,
    until all are listed at most so many; `failed`: task id → reason; `seconds` by stage, of which pulling
    runs beside predicting.
    """

    version: str
    total: int | None
    found: int = 0
    predicted: int = 0
    stored: int = 0
    without_text: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"pull": 0.0, "predict": 0.0, "push": 0.0})
    elapsed: float = 0.0
    stopped: bool = False
    finished: bool = False
    shown_version: str = ""
    """The version whose scores Label Studio shows."""


class AnnotateRun:
    """One run over one project. `open_source(project, labeling config)` gives the source. `outcome` is None
    until it has begun.
    """

    def __init__(
        self, api: Api, options: AnnotateOptions, open_source: Callable[[int, str], PredictionSource]
    ) -> None:
        self._api = api
        self._options = options
        self._open_source = open_source
        self.outcome: AnnotateResult | None = None

    def go(
        self,
        *,
        stop: Callable[[], bool],
        wait: Callable[[float], Any],
        on_progress: Callable[[AnnotateResult], None],
    ) -> AnnotateResult:
        """`stop` is asked between requests; `wait` takes the seconds before a repeat; `on_progress` is told
        after each page and batch.
        """
        begun = perf_counter()
        project = self._project()
        source = self._open_source(self._options.project, project["label_config"])
        tasks, versions = self._tasks(project, source.version)
        everything = self._options.view is None and not self._options.only_unlabeled
        outcome = AnnotateResult(
            source.version,
            project["task_number"] if everything else tasks.total(),
            shown_version=project["model_version"] or "",
        )
        self.outcome = outcome
        try:
            self._loop(tasks, source, outcome, stop, wait, on_progress)
            if (
                not self._options.dry_run
                and not outcome.shown_version
                and (outcome.stored or source.version in versions)
            ):
                self._api.call(
                    "PATCH", f"projects/{self._options.project}", json={"model_version": source.version}
                )
                outcome.shown_version = source.version
            outcome.finished = not outcome.stopped
        finally:
            outcome.elapsed = perf_counter() - begun
        return outcome

    def _project(self) -> dict[str, Any]:
        try:
            project: dict[str, Any] = self._api.get(f"projects/{self._options.project}")
        except LabelStudioRefused as error:
            if error.http_status != NOT_FOUND:
                raise
            raise BadSetting(
                f"--project {self._options.project}: Label Studio has no such project, or this token "
                "may not see it."
            ) from None
        return project

    def _tasks(self, project: dict[str, Any], version: str) -> tuple[MissingPredictions, list[str]]:
        options = self._options
        versions = (
            list(self._api.get(f"projects/{options.project}/model-versions/"))
            if project["total_predictions_number"]
            else []
        )
        chosen = chosen_tasks(
            self._api.get, options.project, options.view, only_unlabeled=options.only_unlabeled
        )
        # without `review` such a project's ML backend is called for every page that is listed
        review = bool(project["evaluate_predictions_automatically"])
        page = min(PAGE, options.batch)
        return MissingPredictions(
            self._api.get, options.project, version, chosen, versions, page, review=review
        ), versions

    def _loop(
        self,
        tasks: MissingPredictions,
        source: PredictionSource,
        outcome: AnnotateResult,
        stop: Callable[[], bool],
        wait: Callable[[float], Any],
        on_progress: Callable[[AnnotateResult], None],
    ) -> None:
        pages = tasks.pages()
        held: list[Item] = []
        listed = 0
        store = Uploader(self._post, tasks.among, wait)

        def pull() -> list[Task] | None:
            begun = perf_counter()
            page = next(pages, None)
            outcome.seconds["pull"] += perf_counter() - begun
            return page

        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(pull)
            while not outcome.stopped and (page := coming.result()) is not None:
                coming = ahead.submit(pull)
                outcome.found = tasks.found
                listed += len(page)
                held += _predict(source, page, outcome)
                on_progress(outcome)
                outcome.stopped = stop()
                if len(held) >= self._options.batch and not outcome.stopped:
                    self._push(held, store, outcome)
                    held = []
                    on_progress(outcome)
                    outcome.stopped = stop()
        if not outcome.stopped:
            outcome.found = listed
            self._push(held, store, outcome)
            on_progress(outcome)

    def _push(self, items: list[Item], store: Uploader, outcome: AnnotateResult) -> None:
        if self._options.dry_run or not items:
            return
        begun = perf_counter()
        failed = store(items)
        outcome.seconds["push"] += perf_counter() - begun
        outcome.failed |= failed
        outcome.stored += len(items) - len(failed)

    def _post(self, items: list[Item]) -> int:
        path = f"projects/{self._options.project}/import/predictions"
        # no repeats here: what a lost answer has stored is asked first
        created: int = self._api.call("POST", path, json=items, timeout=PUSH_SECONDS, retries=0)["created"]
        return created


def _predict(source: PredictionSource, page: list[Task], outcome: AnnotateResult) -> list[Item]:
    begun = perf_counter()
    found, failed = source.answers(page)
    outcome.seconds["predict"] += perf_counter() - begun
    outcome.failed |= failed
    outcome.predicted += len(found)
    outcome.without_text += sum(not prediction["result"] for prediction in found.values())
    return [{"task": task, **prediction} for task, prediction in found.items()]
