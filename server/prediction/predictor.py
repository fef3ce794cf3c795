"""The story of one request: labeling config → texts → ids → probabilities → results, in the order of the
tasks. Of plain texts only the middle of it.

A large request goes piece by piece, a few pieces at a time, so that one is tokenized and another made into
results while the model runs a third, and so that no piece holds the event loop for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from server.batching.batcher import Batcher
from server.errors import DeadlineExceeded, RequestTooLarge
from server.label_studio.extra_params import scoring_wanted
from server.label_studio.labeling_config import LabelingPlan, read_plan
from server.models.ensemble import Ensemble
from server.observability.project_activity import name_of
from server.prediction.request import Answer, Classified, TaskRequest, TextRequest
from server.prediction.scoring_store import ProjectScorings
from server.scoring import DEFAULT_SCORING, Scoring

T = TypeVar("T")
U = TypeVar("U")


class Predictor:
    """Answers Label Studio's requests, and those for plain texts, with the model that `current` gives. Knows
    HTTP as little as the batcher knows engines.
    """

    def __init__(
        self,
        name: str,
        current: Callable[[], Ensemble],
        batcher: Batcher,
        project_scorings: ProjectScorings,
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

        @lru_cache(maxsize=256)
        def cached_plan(config: str, labels: tuple[str, ...]) -> LabelingPlan:
            return read_plan(config, labels, label_map)

        self._plan = cached_plan

    @property
    def version(self) -> str:
        """The model version of projects that ask for no scoring of their own."""
        return self._scoring.version(self._current().version)

    def set_up(self, config: str, project: object, extra_params: object) -> tuple[str, LabelingPlan]:
        """The model version for this project and what is served to it; its scoring holds until it is set up
        again, as Label Studio does before it asks.

        Raises BadLabelConfig, BadRequest.
        """
        model = self._current()
        plan = self._plan(config, model.labels)
        scoring = scoring_wanted(extra_params, self._scoring)
        name = name_of(project)
        if name == project:
            self._project_scorings.remember(self._name, name, scoring if scoring != self._scoring else None)
        return scoring.version(model.version), plan

    async def predict(self, tasks: list[Any], config: str, project: object = None) -> Answer:
        """One prediction a task, in order; `project` as Label Studio named it at set-up.

        Raises BadLabelConfig, Overloaded, DeadlineExceeded, EngineFailed when every model call failed,
        Unavailable.
        """
        model = self._current()
        plan = self._plan(config, model.labels)
        scoring = self._project_scorings.of(self._name, name_of(project)) or self._scoring
        return await self._in_time(
            TaskRequest(model, self._batcher, plan, scoring, self._max_text).answer(tasks),
            f"{len(tasks)} tasks",
        )

    async def classify(self, texts: list[str]) -> Classified:
        """Probabilities for each text, in order, or none at all.

        Raises RequestTooLarge for a text that is too long, Overloaded, DeadlineExceeded, EngineFailed when a
        model call failed, Unavailable.
        """
        longest = max(map(len, texts), default=0)
        if longest > self._max_text:
            raise RequestTooLarge(
                f"A text has {longest} characters; the limit is {self._max_text} (PRELABEL_MAX_TEXT). "
                "Send it in parts."
            )
        return await self._in_time(
            TextRequest(self._current(), self._batcher, DEFAULT_SCORING).classify(texts),
            f"{len(texts)} texts",
        )

    async def _in_time(self, answer: Awaitable[T], of_what: str) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(
                f"The {of_what} were not predicted within {self._timeout:g} s "
                "(PRELABEL_REQUEST_TIMEOUT); send fewer at once."
            ) from None
