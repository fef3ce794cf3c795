"""One request: texts → token ids → probabilities → predictions, in micro-batches.

Several micro-batches are under way at once, so that one is tokenized and another becomes results while the
model runs a third. Each is small enough not to hold the event loop; long texts are read, tokenized and
hashed in threads.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np

from server.arrays import Bools, Floats, Ids
from server.batching.batcher import Batcher
from server.batching.buckets import Priority
from server.batching.pending_request import RequestResult
from server.errors import PrelabelError, RequestTooLarge
from server.label_studio.labeling_config import LabelingPlan, Texts
from server.label_studio.predictions import predictions
from server.models.ensemble import Ensemble
from server.models.model import Model
from server.models.windows import Windows
from server.observability.prediction_stats import PredictionStats
from server.prediction.answer import Answer, Classified, Results
from server.prediction.concurrency import map_concurrently, run
from server.prediction.micro_batches import (
    MICRO_BATCH,
    MICRO_BATCH_REGIONS,
    MICRO_BATCHES_AT_ONCE,
    micro_batches,
)
from server.prediction.task_texts import Tasks, TaskTexts, characters_of, read_tasks, size_of
from server.scoring import Scores, Scoring, scores_of

T = TypeVar("T")
U = TypeVar("U")


LONG_FIELDS = 10_000
"""Characters and list elements in the fields of a task from which they are read in a thread."""

LONG_HASH = 1_000_000
"""Characters to hash for region ids from which results are made in a thread: up to 4 ms, of emoji."""

MOST_WINDOWS = 16
"""Windows of a single task that run before bulk. A text of a million characters has thousands, for which the
single tasks of all models would wait.
"""

STAGES = ("tokenize", "queue", "engine")


class TextRequest:
    """A request for the probabilities of plain texts."""

    def __init__(self, model: Ensemble, batcher: Batcher, scoring: Scoring) -> None:
        self._model = model
        self._scoring = scoring
        self._batcher = batcher
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._tokens = 0
        self._truncated: Counter[Model] = Counter()
        self._version = scoring.version(model.version)
        self._stats = PredictionStats(self._version, model.labels)

    async def classify(self, texts: Sequence[str | Ids]) -> Classified:
        """For texts, or for their token ids if all members are one model.

        Raises what the batcher raises, and the failure of any model call.
        """
        batches = await self._in_micro_batches(
            self._probabilities_or_failure, micro_batches(texts, len, MICRO_BATCH), len(texts), len(texts)
        )
        probabilities = np.concatenate([np.zeros((0, len(self._model.labels)), dtype=np.float32), *batches])
        return Classified(
            self._version,
            self._model.labels,
            probabilities,
            self._seconds,
            self._tokens,
            self._most_truncated,
            self._stats,
        )

    async def _probabilities_or_failure(self, priority: Priority, texts: Sequence[str | Ids]) -> Floats:
        probabilities, _, failure = await self._probabilities(priority, texts)
        if failure is not None:
            raise failure
        self._stats.add(probabilities, scores_of(probabilities, self._scoring.score))
        return probabilities

    async def _in_micro_batches(
        self,
        function: Callable[[Priority, list[T]], Awaitable[U]],
        batches: Iterable[list[T]],
        items: int,
        rows: int,
    ) -> list[U]:
        """`function` over `batches`, after all of the request's `rows` texts are admitted. A request with a
        single item is interactive.
        """
        priority = Priority.INTERACTIVE if items == 1 else Priority.BULK
        with ExitStack() as admitted:
            for member in self._model.members:
                admitted.enter_context(self._batcher.admit(rows, priority, member.model.run))
            answers = await map_concurrently(
                partial(function, priority), list(batches) if items == 1 else batches, MICRO_BATCHES_AT_ONCE
            )
        self._seconds["queue"] /= max(1, rows * len(self._model.members))
        return answers

    async def _probabilities(
        self, priority: Priority, texts: Sequence[str | Ids]
    ) -> tuple[Floats, Bools | None, PrelabelError | None]:
        """float32[texts, classes] of at least one text. If a model call failed: bool[texts], False where a
        row is missing, and the failure.
        """
        members = self._model.members
        outcomes = await map_concurrently(
            lambda member: self._run(member.model, texts, priority),
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

    async def _run(self, model: Model, texts: Sequence[str | Ids], priority: Priority) -> RequestResult:
        with self._timed("tokenize"):
            windows = await _encode(model, texts)
        self._tokens += sum(map(len, windows.rows))
        if windows.truncated:
            self._truncated[model] += windows.truncated
        if windows.texts is not None and len(windows.rows) > MOST_WINDOWS:
            priority = Priority.BULK
        outcome = await self._batcher.submit(windows.rows, priority, model.run, token_cost=model.token_cost)
        self._seconds["queue"] += outcome.waited * len(texts)
        self._seconds["engine"] += outcome.engine
        if windows.texts is None:
            return outcome
        return replace(
            outcome,
            probabilities=windows.mean(outcome.probabilities, model.bundle.manifest.head),
            answered=windows.all_of(outcome.answered),
        )

    @property
    def _most_truncated(self) -> int:
        """Texts that were truncated, by the member that truncated most: each counts once."""
        return max(self._truncated.values(), default=0)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - start


class TaskRequest(TextRequest):
    """A request of Label Studio: a plan turns its tasks into texts, and probabilities into predictions."""

    def __init__(
        self, model: Ensemble, batcher: Batcher, plan: LabelingPlan, scoring: Scoring, max_text: int
    ) -> None:
        super().__init__(model, batcher, scoring)
        self._plan = plan
        self._max_text = max_text
        self._seconds["results"] = 0.0

    async def answer(self, tasks: Tasks) -> Answer:
        """The predictions for `tasks`, the data of each task.

        Raises what the batcher raises, and the failure if there is no prediction at all.
        """
        with self._timed("tokenize"):
            texts = await self._read(tasks)
        batches = micro_batches(
            texts.tasks,
            characters_of,
            max(1, min(MICRO_BATCH, MICRO_BATCH_REGIONS // len(self._plan.bindings))),
        )
        results = await self._in_micro_batches(self._micro_batch, batches, len(texts.tasks), texts.rows)
        failure = next((each.failure for each in results if each.failure is not None), None)
        if texts.too_long:
            failure = RequestTooLarge(
                f"{texts.too_long} of the tasks have texts of more than {self._max_text} characters "
                "(PRELABEL_MAX_TEXT)."
            )
        failed = sum(each.failed for each in results)
        if failure is not None and failed == len(texts.tasks):
            raise failure
        return Answer(
            [each.json for each in results],
            sum(each.predicted for each in results),
            sum(each.empty for each in results),
            failed,
            self._seconds,
            self._tokens,
            self._most_truncated,
            self._stats,
            self._plan.summary,
            None if texts.has_values or not texts.tasks else self._plan.without_text,
            failure,
        )

    async def _read(self, tasks: Tasks) -> TaskTexts:
        is_long = (
            len(tasks) > 1
            or not isinstance(tasks, list)
            or any(size_of(self._plan.look_up(task)) > LONG_FIELDS for task in tasks)
        )
        read, rest = TaskTexts(), iter(tasks)
        while await run(is_long, read_tasks, read, self._plan, rest, self._max_text):
            pass  # a caller that left is noticed between two pieces
        return read

    async def _micro_batch(self, priority: Priority, tasks: list[Texts | None]) -> Results:
        present = [text for texts in tasks if texts is not None for text in texts if text is not None]
        probabilities: Floats = np.zeros((0, len(self._model.labels)), dtype=np.float32)
        answered: Bools | None = None
        failure: PrelabelError | None = None
        if present:
            probabilities, answered, failure = await self._probabilities(priority, present)
            if answered is not None and not answered.any():
                return Results(b",".join([b"{}"] * len(tasks)), failed=len(tasks), failure=failure)
        with self._timed("results"):
            scores = scores_of(probabilities, self._scoring.score)
            if answered is None:
                self._stats.add(probabilities, scores)
            else:
                self._stats.add(probabilities[answered], scores[answered])
            results = await run(
                _hashed_characters(self._plan, tasks) > LONG_HASH,
                self._results,
                tasks,
                probabilities,
                scores,
                answered,
            )
        results.failure = failure
        return results

    def _results(
        self, tasks: Sequence[Texts | None], probabilities: Floats, scores: Scores, answered: Bools | None
    ) -> Results:
        found = predictions(
            self._plan, self._version, tasks, probabilities, scores, self._scoring.threshold, answered
        )
        failed = sum(not each for each in found)
        predicted = sum(bool(each.get("result")) for each in found)
        json = msgspec.json.encode(found)[1:-1]  # without the list's brackets
        return Results(json, predicted, len(found) - predicted - failed, failed)


def _hashed_characters(plan: LabelingPlan, tasks: Iterable[Texts | None]) -> int:
    """Each text is hashed once for each control of its field."""
    return sum(
        len(text) * controls
        for texts in tasks
        if texts is not None
        for text, controls in zip(texts, plan.controls_of_fields, strict=True)
        if text is not None
    )


async def _encode(model: Model, texts: Sequence[str | Ids]) -> Windows:
    """The rows of texts, or of their token ids."""
    is_long = len(texts) > 1 or (isinstance(texts[0], str) and len(texts[0]) >= model.tokenizer.long_text)
    return await run(is_long, _windows, model, texts)


def _windows(model: Model, texts: Sequence[str | Ids]) -> Windows:
    words = [text for text in texts if isinstance(text, str)]
    if not words:  # token ids
        encoded = [text for text in texts if not isinstance(text, str)]
    elif len(words) == 1:
        encoded = [model.tokenizer.encode(words[0])]
    else:
        encoded = model.tokenizer.encode_all(words)
    return Windows.of(encoded, model.bundle.encoders)
