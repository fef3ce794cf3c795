"""Answers requests for predictions: labeling config → texts → token ids → probabilities → predictions, in the
order of the tasks. For plain texts, only the steps from text to probabilities.

A project that learns has its own model as soon as there is one. Until then it is answered with the model of
the server where the labels fit, and without a prediction where they do not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from server.batching.batcher import Batcher
from server.errors import BadLabelConfig, BadRequest, DeadlineExceeded, RequestTooLarge
from server.label_studio.extra_params import requested_scoring
from server.label_studio.labeling_config import LabelingPlan, read_plan
from server.learning.annotations import UNTRAINED
from server.models.ensemble import Ensemble
from server.observability.project_activity import name_of
from server.prediction.answer import Answer, Classified
from server.prediction.parse_thread import ParseThread
from server.prediction.plan_cache import PlanCache
from server.prediction.request import TaskRequest, TextRequest
from server.prediction.scoring_store import ProjectScorings
from server.prediction.task_texts import Tasks
from server.prediction.token_rows import TokenRows
from server.scoring import DEFAULT_SCORING, Scoring

T = TypeVar("T")

STILL_LEARNING = (
    "no prediction yet: no model has the labels of this project, so it learns them from the annotations"
)


@dataclass(frozen=True)
class SetUp:
    """The model version for a project; `served` says which controls are predicted from which texts, or why
    none is.
    """

    version: str
    served: str


class Predictor:
    """Answers requests with the model that `current` returns for a project at the time, "" for none.
    Independent of HTTP.

    `learns` says whether a project learns. `timeout` in seconds, for a whole request; `max_text` in
    characters, markup included.
    """

    def __init__(
        self,
        name: str,
        current: Callable[[str], Ensemble],
        batcher: Batcher,
        project_scorings: ProjectScorings,
        parse_thread: ParseThread,
        *,
        label_map: Mapping[str, str],
        scoring: Scoring,
        timeout: float,
        max_text: int,
        learns: Callable[[str], bool] = lambda project: False,  # noqa: ARG005 - no project does
    ) -> None:
        self._name = name
        self._learns = learns
        self._current = current
        self._scoring = scoring
        self._project_scorings = project_scorings
        self._batcher = batcher
        self._timeout = timeout
        self._max_text = max_text
        self._plans = PlanCache(partial(read_plan, label_map=label_map), parse_thread)

    @property
    def version(self) -> str:
        """The model version for projects without a scoring of their own."""
        return self._scoring.version(self._current("").version)

    async def set_up(self, config: str, project: object, extra_params: object) -> SetUp:
        """What a project gets. Its scoring holds until the next set-up; Label Studio sets a project up before
        each request for predictions.

        Raises BadLabelConfig, BadRequest, Overloaded, Unavailable.
        """
        name = name_of(project)
        scoring = requested_scoring(extra_params, self._scoring)
        model = self._current(name)
        plan = await self._plan(config, model, name)
        if name == project:
            own = scoring if scoring != self._scoring else None
            await self._project_scorings.remember(self._name, name, own)
        if plan is None:
            return SetUp(self._untrained, STILL_LEARNING)
        return SetUp(scoring.version(model.version), plan.summary)

    async def predict(self, tasks: Tasks, config: str, project: object = None) -> Answer:
        """One prediction for each of `tasks`, in order. A task is its `data`; unless `tasks` is a list, it is
        iterated in a thread. `project` as Label Studio named it at set-up.

        Raises BadLabelConfig, Overloaded, DeadlineExceeded, Unavailable, what iterating the tasks raises, and
        RequestTooLarge or EngineFailed if there is no prediction at all.
        """
        return await self._in_time(self._predict(tasks, config, project), len(tasks), "tasks")

    async def classify(self, texts: list[str]) -> Classified:
        """Probabilities for all texts, in order.

        Raises RequestTooLarge for a text that is too long, Overloaded, DeadlineExceeded, Unavailable, and
        EngineFailed if any model call failed.
        """
        longest = max(map(len, texts), default=0)
        if longest > self._max_text:
            raise RequestTooLarge(
                f"A text has {longest} characters; the limit is {self._max_text} (PRELABEL_MAX_TEXT). "
                "Send it in parts."
            )
        request = TextRequest(self._current(""), self._batcher, DEFAULT_SCORING)
        return await self._in_time(request.classify(texts), len(texts), "texts")

    async def classify_tokens(self, tokens: TokenRows) -> Classified:
        """The same for texts of which the token ids are known.

        Raises BadRequest unless the model is a single transformer that takes such ids, and as `classify`.
        """
        model = self._current("")
        if model.only_transformer is None or not tokens.fit(model.only_transformer):
            raise BadRequest(
                "inputs: the model was replaced while the request arrived, and does not take these token "
                "ids; send those of its tokenizer."
            )
        request = TextRequest(model, self._batcher, DEFAULT_SCORING)
        return await self._in_time(request.classify(tokens.rows), len(tokens), "texts")

    async def _predict(self, tasks: Tasks, config: str, project: object) -> Answer:
        name = name_of(project)
        model = self._current(name)
        plan = await self._plan(config, model, name)
        if plan is None:
            return Answer.without_predictions(len(tasks), self._untrained, STILL_LEARNING)
        scoring = await self._project_scorings.of(self._name, name) or self._scoring
        return await TaskRequest(model, self._batcher, plan, scoring, self._max_text).answer(tasks)

    @property
    def _untrained(self) -> str:
        """The version where no model has the project's labels yet."""
        return f"{self._name}{UNTRAINED}"

    async def _plan(self, config: str, model: Ensemble, project: str) -> LabelingPlan | None:
        """None for a project that learns its labels, which the model does not have. Raises BadLabelConfig,
        Overloaded.
        """
        try:
            return await self._plans.plan(config, model.labels)
        except BadLabelConfig:
            if not self._learns(project):
                raise
            return None

    async def _in_time(self, answer: Awaitable[T], count: int, things: str) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            remedy = (
                f"Send fewer {things} at once" if count > 1 else "Send a shorter text, or raise the limit"
            )
            raise DeadlineExceeded(
                f"{count} {things if count > 1 else things[:-1]} not predicted within {self._timeout:g} s "
                f"(PRELABEL_REQUEST_TIMEOUT). {remedy}."
            ) from None
