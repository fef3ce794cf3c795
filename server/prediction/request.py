"""The texts of one request on their way through a model."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from server.arrays import Bools, Floats, Ids, RunBatch
from server.batching.batcher import Batcher
from server.batching.buckets import Priority
from server.batching.pending_request import RequestResult
from server.errors import PrelabelError, RequestTooLarge
from server.label_studio.labeling_config import LabelingPlan
from server.label_studio.predictions import Prediction, predictions
from server.models.ensemble import Ensemble
from server.models.tokenizer import Tokenizer
from server.observability.prediction_stats import PredictionStats
from server.prediction.concurrency import map_concurrently, map_cooperatively
from server.scoring import Scoring, scores_of

T = TypeVar("T")
U = TypeVar("U")

PIECE = 128
"""Tasks of a large request that go through together: about half a millisecond of work on the event loop."""


PIECES_AT_ONCE = 3
"""Enough for the model never to wait for the pieces around it."""


LONG_TEXT = 100_000
"""Characters from which a text is tokenized in a thread, for it alone would take longer than a slice."""


STAGES = ("tokenize", "queue", "engine")


Texts = tuple[str | None, ...]
"""A task's text for each source of the plan."""


TOO_LONG: Texts = ("",)
"""In place of the texts of a task that has one that is longer than the settings allow; a mark, known by its
identity.
"""


@dataclass
class Answer:
    """One prediction a task, in order, `{}` where its model call failed; why, when any did.

    `seconds` by stage: of work for tokenize, engine and results, which overlap in a large request; of
    waiting, the mean of the texts, for queue. `tokens` went into models. `prediction_stats` counts what was answered.
    """

    predictions: list[Prediction]
    failure: PrelabelError | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    prediction_stats: PredictionStats | None = None

    def count(self) -> dict[str, int]:
        """Tasks by what became of them."""
        failed = sum(not answer for answer in self.predictions)
        predicted = sum(bool(answer.get("result")) for answer in self.predictions)
        return {"predicted": predicted, "empty": len(self.predictions) - predicted - failed, "failed": failed}


@dataclass(frozen=True)
class Classified:
    """What the model of this `version` says of texts: `probabilities` float32[texts, labels]; `seconds`,
    `tokens` and `prediction_stats` as an Answer has them.
    """

    version: str
    labels: tuple[str, ...]
    probabilities: Floats
    seconds: Mapping[str, float]
    tokens: int
    prediction_stats: PredictionStats


class TextRequest:
    """The texts of one request on their way through a model, and the seconds that their stages took so far."""

    def __init__(self, model: Ensemble, batcher: Batcher, scoring: Scoring) -> None:
        self._model = model
        self._scoring = scoring
        self._batcher = batcher
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._tokens = 0
        self._version = scoring.version(model.version)
        self._tally = PredictionStats(self._version, model.labels)

    async def classify(self, texts: list[str]) -> Classified:
        pieces = await self._by_pieces(self._probabilities_or_none, texts, len(texts))
        probabilities = np.concatenate([np.zeros((0, len(self._model.labels)), dtype=np.float32), *pieces])
        return Classified(
            self._version, self._model.labels, probabilities, self._seconds, self._tokens, self._tally
        )

    async def _probabilities_or_none(self, priority: Priority, texts: list[str]) -> Floats:
        probabilities, _, failure = await self._probabilities(priority, texts)
        if failure is not None:
            raise failure
        self._tally.add(probabilities, scores_of(probabilities, self._scoring.score))
        return probabilities

    async def _by_pieces(
        self, function: Callable[[Priority, list[T]], Awaitable[U]], items: list[T], rows: int
    ) -> list[U]:
        """`function` over pieces of `items`, once there is room for all their `rows` texts."""
        priority = Priority.INTERACTIVE if len(items) == 1 else Priority.BULK
        with ExitStack() as admit:
            for member in self._model.members:
                admit.enter_context(self._batcher.admit(rows, priority, member.model.run))
            pieces = [items[begin : begin + PIECE] for begin in range(0, len(items), PIECE)]
            answers = await map_concurrently(partial(function, priority), pieces, PIECES_AT_ONCE)
        self._seconds["queue"] /= max(1, rows * len(self._model.members))
        return answers

    async def _probabilities(
        self, priority: Priority, texts: list[str]
    ) -> tuple[Floats, Bools | None, PrelabelError | None]:
        """float32[texts, classes] of at least one text; where not all were answered, which of them were, and
        why the others were not.
        """
        members = self._model.members
        outcomes = await map_concurrently(
            lambda member: self._run(member.model.tokenizer, texts, priority, member.model.run),
            members,
            len(members),
        )
        failure = next((outcome.failure for outcome in outcomes if outcome.failure is not None), None)
        if failure is None:
            return self._model.mean([outcome.probabilities for outcome in outcomes]), None, None
        answered = np.logical_and.reduce([outcome.answered for outcome in outcomes])
        if not answered.any():
            return np.zeros((len(texts), len(self._model.labels)), dtype=np.float32), answered, failure
        return self._model.mean([outcome.probabilities for outcome in outcomes]), answered, failure

    async def _run(
        self, tokenizer: Tokenizer, texts: list[str], priority: Priority, run_batch: RunBatch
    ) -> RequestResult:
        with self._timed("tokenize"):
            rows = await _encode(tokenizer, texts)
        self._tokens += sum(map(len, rows))
        outcome = await self._batcher.submit(rows, priority, run_batch)
        self._seconds["queue"] += outcome.waited * len(rows)
        self._seconds["engine"] += outcome.engine
        return outcome

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - begun


class TaskRequest(TextRequest):
    """One of Label Studio's: its tasks become texts by a plan, and probabilities predictions."""

    def __init__(
        self, model: Ensemble, batcher: Batcher, plan: LabelingPlan, scoring: Scoring, max_text: int
    ) -> None:
        super().__init__(model, batcher, scoring)
        self._plan = plan
        self._max_text = max_text
        self._seconds["results"] = 0.0

    async def answer(self, tasks: list[Any]) -> Answer:
        with self._timed("tokenize"):
            texts = await map_cooperatively(self._texts, tasks)
        too_long = [place for place, each in enumerate(texts) if each is TOO_LONG]
        for place in too_long:
            texts[place] = self._plan.texts(None)
        answers = await self._by_pieces(
            self._piece, texts, sum(text is not None for each in texts for text in each)
        )
        found = [each for answer in answers for each in answer.predictions]
        failure = next((answer.failure for answer in answers if answer.failure is not None), None)
        for place in too_long:
            found[place] = {}
        if too_long:
            failure = RequestTooLarge(
                f"{len(too_long)} of the tasks have texts of more than {self._max_text} characters "
                "(PRELABEL_MAX_TEXT)."
            )
        if failure is not None and not any(found):
            raise failure
        return Answer(found, failure, self._seconds, self._tokens, self._tally)

    def _texts(self, data: object) -> Texts:
        texts = self._plan.texts(data)
        return TOO_LONG if any(text is not None and len(text) > self._max_text for text in texts) else texts

    async def _piece(self, priority: Priority, texts: list[Texts]) -> Answer:
        present = [text for each in texts for text in each if text is not None]
        if not present:
            return self._results(texts, np.zeros((0, len(self._model.labels)), dtype=np.float32))
        probabilities, answered, failure = await self._probabilities(priority, present)
        if answered is not None and not answered.any():
            return Answer([{}] * len(texts), failure)
        return self._results(texts, probabilities, answered, failure)

    def _results(
        self,
        texts: Sequence[Texts],
        probabilities: Floats,
        answered: Bools | None = None,
        failure: PrelabelError | None = None,
    ) -> Answer:
        with self._timed("results"):
            scores = scores_of(probabilities, self._scoring.score)
            if answered is None:
                self._tally.add(probabilities, scores)
            else:
                self._tally.add(probabilities[answered], scores[answered])
            return Answer(
                predictions(
                    self._plan, self._version, texts, probabilities, scores, self._scoring.threshold, answered
                ),
                failure,
            )


async def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[Ids]:
    if len(texts) == 1 and len(texts[0]) < LONG_TEXT:
        return [tokenizer.encode(texts[0])]
    return await asyncio.to_thread(tokenizer.encode_all, texts)
