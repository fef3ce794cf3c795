"""Answers requests for predictions: labeling config → texts → token ids → probabilities → predictions, in the
order of the tasks. For plain texts, only the steps from text to probabilities.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from server.batching.batcher import Batcher
from server.errors import BadRequest, DeadlineExceeded, RequestTooLarge
from server.label_studio.extra_params import requested_scoring
from server.label_studio.labeling_config import LabelingPlan, read_plan
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


class Predictor:
    """Answers requests with the model that `current` returns at the time. Independent of HTTP.

    `timeout` in seconds, for a whole request; `max_text` in characters, markup included.
    """

    def __init__(
        self,
        name: str,
        current: Callable[[], Ensemble],
        batcher: Batcher,
        project_scorings: ProjectScorings,
        parse_thread: ParseThread,
        *,
        label_map: Mapping[str, str],
        scoring: Scoring,
        timeout: float,
        max_text: int,
    ) -> None:
        self._name = name
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
        return self._scoring.version(self._current().version)

    async def set_up(self, config: str, project: object, extra_params: object) -> tuple[str, LabelingPlan]:
        """The model version and the plan for a project. Its scoring holds until the next set-up; Label Studio
        sets a project up before each request for predictions.

        Raises BadLabelConfig, BadRequest, Overloaded, Unavailable.
        """
        model = self._current()
        plan = await self._plans.plan(config, model.labels)
        scoring = requested_scoring(extra_params, self._scoring)
        name = name_of(project)
        if name == project:
            own = scoring if scoring != self._scoring else None
            await self._project_scorings.remember(self._name, name, own)
        return scoring.version(model.version), plan

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
        request = TextRequest(self._current(), self._batcher, DEFAULT_SCORING)
        return await self._in_time(request.classify(texts), len(texts), "texts")

    async def classify_tokens(self, tokens: TokenRows) -> Classified:
        """The same for texts of which the token ids are known.

        Raises BadRequest unless the model is a single transformer that takes such ids, and as `classify`.
        """
        model = self._current()
        if model.only_transformer is None or not tokens.fit(model.only_transformer):
            raise BadRequest(
                "inputs: the model was replaced while the request arrived, and does not take these token "
                "ids; send those of its tokenizer."
            )
        request = TextRequest(model, self._batcher, DEFAULT_SCORING)
        return await self._in_time(request.classify(tokens.rows), len(tokens), "texts")

    async def _predict(self, tasks: Tasks, config: str, project: object) -> Answer:
        model = self._current()
        plan = await self._plans.plan(config, model.labels)
        scoring = await self._project_scorings.of(self._name, name_of(project)) or self._scoring
        return await TaskRequest(model, self._batcher, plan, scoring, self._max_text).answer(tasks)

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
