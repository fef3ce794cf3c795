"""The story of one request: labeling config → texts → ids → probabilities → results, in the order of the tasks.

A large request goes piece by piece, a few pieces at a time, so that one is tokenized and another made into results while the
model runs a third, and so that no piece holds the event loop for long.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from server.arrays import Bools, Floats, Ids
from server.batcher import Batcher, Outcome, Runner
from server.buckets import Lane
from server.errors import DeadlineExceeded, PrelabelError, RequestTooLarge
from server.journal import name_of
from server.label_studio.config import Plan, read_plan
from server.label_studio.extra_params import scoring_wanted
from server.label_studio.results import Prediction, predictions
from server.models import Ensemble
from server.project_scorings import ProjectScorings
from server.scores import Scoring, scores_of
from server.tally import Tally
from server.tokenizer import Tokenizer

T = TypeVar("T")
U = TypeVar("U")

LOOP_SLICE = 0.001
"""Seconds that one request may hold the event loop before others get their turn."""

PIECE = 128
"""Tasks of a large request that go through together: about half a millisecond of work on the event loop."""

PIECES_AT_ONCE = 3
"""Enough for the model never to wait for the pieces around it."""

LONG_TEXT = 100_000
"""Characters from which a text is tokenized in a thread, for it alone would take longer than a slice."""

STAGES = ("tokenize", "queue", "engine", "results")

Texts = tuple[str | None, ...]
"""A task's text for each source of the plan."""

TOO_LONG: Texts = ("",)
"""In place of the texts of a task that has one that is longer than the settings allow; a mark, known by its identity."""


@dataclass
class Answer:
    """One prediction a task, in order, `{}` where its model call failed; why, when any did.

    `seconds` by stage: of work for tokenize, engine and results, which overlap in a large request; of waiting, the mean of the texts, for queue.
    `tokens` went into models. `tally` counts what was answered.
    """

    predictions: list[Prediction]
    failure: PrelabelError | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    tally: Tally | None = None

    def count(self) -> dict[str, int]:
        """Tasks by what became of them."""
        failed = sum(not answer for answer in self.predictions)
        predicted = sum(bool(answer.get("result")) for answer in self.predictions)
        return {"predicted": predicted, "empty": len(self.predictions) - predicted - failed, "failed": failed}


class Predictor:
    """Answers Label Studio's requests with the model that `current` gives. Knows HTTP as little as the batcher knows engines."""

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
        if name == project:
            self._project_scorings.remember(self._name, name, scoring if scoring != self._scoring else None)
        return scoring.version(model.version), plan

    async def predict(self, tasks: list[Any], config: str, project: object = None) -> Answer:
        """One prediction a task, in order; `project` as Label Studio named it at set-up.

        Raises BadLabelConfig, Overloaded, DeadlineExceeded, EngineFailed when every model call failed, Unavailable.
        """
        model = self._current()
        plan = self._plan(config, model.labels)
        scoring = self._project_scorings.of(self._name, name_of(project)) or self._scoring
        try:
            async with asyncio.timeout(self._timeout):
                return await _Request(model, plan, scoring, self._batcher, self._max_text).answer(tasks)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The {len(tasks)} tasks were not predicted within {self._timeout:g} s (PRELABEL_REQUEST_TIMEOUT); send fewer at once."
            ) from None


class _Request:
    """What one request for predictions is answered with, and the seconds that its stages took so far."""

    def __init__(self, model: Ensemble, plan: Plan, scoring: Scoring, batcher: Batcher, max_text: int) -> None:
        self._model = model
        self._plan = plan
        self._scoring = scoring
        self._batcher = batcher
        self._max_text = max_text
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._tokens = 0
        self._version = scoring.version(model.version)
        self._tally = Tally(self._version, model.labels)

    async def answer(self, tasks: list[Any]) -> Answer:
        with self._timed("tokenize"):
            texts = await _gently(self._texts, tasks)
        too_long = [place for place, each in enumerate(texts) if each is TOO_LONG]
        for place in too_long:
            texts[place] = self._plan.texts(None)
        rows = sum(text is not None for each in texts for text in each)
        lane = Lane.INTERACTIVE if len(tasks) == 1 else Lane.BULK
        with ExitStack() as room:
            for member in self._model.members:
                room.enter_context(self._batcher.room(rows, lane, member.model.run))
            pieces = [texts[begin : begin + PIECE] for begin in range(0, len(texts), PIECE)]
            answers = await _side_by_side(partial(self._piece, lane), pieces, PIECES_AT_ONCE)
        self._seconds["queue"] /= max(1, rows * len(self._model.members))
        found = [each for answer in answers for each in answer.predictions]
        failure = next((answer.failure for answer in answers if answer.failure is not None), None)
        for place in too_long:
            found[place] = {}
        if too_long:
            failure = RequestTooLarge(f"{len(too_long)} of the tasks have texts of more than {self._max_text} characters (PRELABEL_MAX_TEXT).")
        if failure is not None and not any(found):
            raise failure
        return Answer(found, failure, self._seconds, self._tokens, self._tally)

    def _texts(self, data: object) -> Texts:
        texts = self._plan.texts(data)
        return TOO_LONG if any(text is not None and len(text) > self._max_text for text in texts) else texts

    async def _piece(self, lane: Lane, texts: Sequence[Texts]) -> Answer:
        present = [text for each in texts for text in each if text is not None]
        members = self._model.members
        if not present:
            return self._results(texts, np.zeros((0, len(self._model.labels)), dtype=np.float32))
        outcomes = await _side_by_side(lambda member: self._run(member.model.tokenizer, present, lane, member.model.run), members, len(members))
        failure = next((outcome.failure for outcome in outcomes if outcome.failure is not None), None)
        if failure is None:
            return self._results(texts, self._model.mean([outcome.probabilities for outcome in outcomes]))
        answered = np.logical_and.reduce([outcome.answered for outcome in outcomes])
        if not answered.any():
            return Answer([{}] * len(texts), failure)
        return self._results(texts, self._model.mean([outcome.probabilities for outcome in outcomes]), answered, failure)

    async def _run(self, tokenizer: Tokenizer, texts: list[str], lane: Lane, runner: Runner) -> Outcome:
        with self._timed("tokenize"):
            rows = await _encode(tokenizer, texts)
        self._tokens += sum(map(len, rows))
        outcome = await self._batcher.submit(rows, lane, runner)
        self._seconds["queue"] += outcome.waited * len(rows)
        self._seconds["engine"] += outcome.engine
        return outcome

    def _results(self, texts: Sequence[Texts], probabilities: Floats, answered: Bools | None = None, failure: PrelabelError | None = None) -> Answer:
        with self._timed("results"):
            scores = scores_of(probabilities, self._scoring.score)
            if answered is None:
                self._tally.add(probabilities, scores)
            else:
                self._tally.add(probabilities[answered], scores[answered])
            return Answer(predictions(self._plan, self._version, texts, probabilities, scores, self._scoring.threshold, answered), failure)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - begun


async def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[Ids]:
    if len(texts) == 1 and len(texts[0]) < LONG_TEXT:
        return [tokenizer.encode(texts[0])]
    return await asyncio.to_thread(tokenizer.encode_all, texts)


async def _side_by_side(function: Callable[[T], Awaitable[U]], items: Sequence[T], most: int) -> list[U]:
    """`function` over `items`, `most` of them at a time, in order. A failure ends the others and is raised."""
    if len(items) == 1:
        return [await function(items[0])]
    results: dict[int, U] = {}
    coming = iter(enumerate(items))

    async def work() -> None:
        for place, item in coming:
            results[place] = await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(most, len(items))):
                group.create_task(work())
    except* PrelabelError as failures:
        raise failures.exceptions[0] from None
    return [results[place] for place in range(len(items))]


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
