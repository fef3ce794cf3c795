"""The story of one request: labeling config → texts → ids → probabilities → results, in the order of the tasks."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from server.arrays import Floats, Ids
from server.batcher import Batcher, Outcome
from server.buckets import Lane
from server.errors import PrelabelError
from server.journal import MAX_PROJECTS, name_of
from server.label_studio.config import Plan, read_plan
from server.label_studio.extra_params import scoring_wanted
from server.label_studio.results import Prediction, prediction
from server.models import Ensemble, Member
from server.scores import Scoring

T = TypeVar("T")
U = TypeVar("U")

LOOP_SLICE = 0.002
"""Seconds that one request may hold the event loop before others get their turn."""

LONG_TEXT = 100_000
"""Characters from which a text is tokenized in a thread, for it alone would take longer than a slice."""


@dataclass
class Answer:
    """One prediction a task, in order, `{}` where its model call failed; why, when any did; and the seconds that each stage took."""

    predictions: list[Prediction]
    failure: PrelabelError | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self) -> dict[str, int]:
        """Tasks by what became of them."""
        failed = sum(not answer for answer in self.predictions)
        predicted = sum(bool(answer.get("result")) for answer in self.predictions)
        return {"predicted": predicted, "empty": len(self.predictions) - predicted - failed, "failed": failed}


class Predictor:
    """Answers Label Studio's requests with the model that `current` gives. Knows HTTP as little as the batcher knows engines."""

    def __init__(self, current: Callable[[], Ensemble], batcher: Batcher, *, label_map: Mapping[str, str], scoring: Scoring, timeout: float) -> None:
        self._current = current
        self._scoring = scoring
        self._project_scorings: OrderedDict[str, Scoring] = OrderedDict()
        self._batcher = batcher
        self._timeout = timeout

        @lru_cache(maxsize=256)
        def cached_plan(config: str, labels: tuple[str, ...]) -> Plan:
            return read_plan(config, labels, label_map)

        self._plan = cached_plan

    @property
    def version(self) -> str:
        """The model version of projects that ask for no scoring of their own."""
        return self._scoring.version(self._current().version)

    def set_up(self, config: str, project: object, extra_params: object) -> tuple[str, Plan]:
        """The model version for this project and what is served to it; its scoring holds until it is set up again, as Label Studio does before it asks.

        Raises BadLabelConfig, BadRequest.
        """
        model = self._current()
        plan = self._plan(config, model.labels)
        scoring = scoring_wanted(extra_params, self._scoring)
        name = name_of(project)
        self._project_scorings.pop(name, None)
        if scoring != self._scoring and name == project:
            self._project_scorings[name] = scoring
            if len(self._project_scorings) > MAX_PROJECTS:
                self._project_scorings.popitem(last=False)
        return scoring.version(model.version), plan

    async def predict(self, tasks: list[Any], config: str, project: object = None) -> Answer:
        """One prediction a task, in order; `project` as Label Studio named it at set-up.

        Raises BadLabelConfig, Overloaded, DeadlineExceeded, EngineFailed, Unavailable.
        """
        deadline = time.monotonic() + self._timeout
        model = self._current()
        plan = self._plan(config, model.labels)
        scoring = self._project_scorings.get(name_of(project), self._scoring)
        version = scoring.version(model.version)
        started = time.perf_counter()
        texts = await _gently(lambda task: plan.texts(task.get("data") if isinstance(task, dict) else None), tasks)
        present = [text for each in texts for text in each if text is not None]
        rows = [await _encode(member, present) for member in model.members]
        encoded = time.perf_counter()
        lane = Lane.INTERACTIVE if len(tasks) == 1 else Lane.BULK
        outcomes = await self._run(model, rows, lane, deadline) if present else []
        run = time.perf_counter()
        probabilities = iter(_means(model, outcomes))

        def answer(each: tuple[str | None, ...]) -> Prediction:
            answers = [next(probabilities) if text is not None else None for text in each]
            failed = any(text is not None and found is None for text, found in zip(each, answers, strict=True))
            return {} if failed else prediction(plan, version, each, answers, scoring)

        predictions = await _gently(answer, texts)
        done = time.perf_counter()
        failure = next((outcome.failure for outcome in outcomes if outcome.failure is not None), None)
        return Answer(predictions, failure, {"tokenize": encoded - started, "model": run - encoded, "results": done - run})

    async def _run(self, model: Ensemble, rows: list[list[Ids]], lane: Lane, deadline: float) -> list[Outcome]:
        """Every member's answers; when one member fails altogether its failure is raised, and the others' rows stop waiting."""
        left = max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(self._batcher.submit(member_rows, lane, member.model.run, seconds=left))
                    for member, member_rows in zip(model.members, rows, strict=True)
                ]
        except* PrelabelError as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in running]


def _means(model: Ensemble, outcomes: list[Outcome]) -> Iterable[Floats | None]:
    return (model.mean(answers) for answers in zip(*(outcome.rows for outcome in outcomes), strict=True))


async def _encode(member: Member, texts: list[str]) -> list[Ids]:
    encode = member.model.tokenizer.encode
    if any(len(text) > LONG_TEXT for text in texts):
        return await asyncio.to_thread(lambda: [encode(text) for text in texts])
    return await _gently(encode, texts)


async def _gently(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`function` over `items`, letting others use the event loop after every slice of it."""
    results = []
    end = time.perf_counter() + LOOP_SLICE
    for item in items:
        results.append(function(item))
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + LOOP_SLICE
    return results
