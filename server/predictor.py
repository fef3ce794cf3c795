"""The story of one request: labeling config → texts → ids → probabilities → results, in the order of the tasks."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from server.arrays import Ids
from server.batcher import Batcher
from server.buckets import Lane
from server.bundle import Bundle
from server.label_studio.config import Target, find_target
from server.label_studio.extra_params import score_wanted
from server.label_studio.results import Prediction, empty_prediction, prediction, text_of
from server.scores import Score, version_with
from server.tokenizer import Tokenizer

T = TypeVar("T")
U = TypeVar("U")

LOOP_SLICE = 0.002
"""Seconds that one request may hold the event loop before others get their turn."""

MAX_PROJECTS = 10_000
"""Projects whose own kind of score is remembered; of more, the one set up longest ago is forgotten and gets the default."""

PROJECT_CHARACTERS = 100
"""Label Studio's name for a project is `<id>.<unix time of its creation>`; what is much longer is not one and is not remembered."""

LONG_TEXT = 100_000
"""Characters from which a text is tokenized in a thread, for it alone would take longer than a slice."""


@dataclass
class Answer:
    """One prediction a task, in order, and the seconds that each stage took."""

    predictions: list[Prediction]
    seconds: dict[str, float] = field(default_factory=dict)


class Predictor:
    """Answers Label Studio's requests with one bundle. Knows HTTP as little as the batcher knows engines."""

    def __init__(self, bundle: Bundle, batcher: Batcher, *, label_map: Mapping[str, str], score: Score, timeout: float) -> None:
        self._bundle_version = bundle.version
        self._score = score
        self._project_scores: OrderedDict[str, Score] = OrderedDict()
        self._batcher = batcher
        self._timeout = timeout
        self._tokenizer = Tokenizer.of(bundle)

        @lru_cache(maxsize=256)
        def cached_target(config: str) -> Target:
            return find_target(config, bundle.labels, label_map)

        self.target: Callable[[str], Target] = cached_target
        """Labeling config → where predictions go. Raises BadLabelConfig."""

    @property
    def version(self) -> str:
        """The model version of projects that ask for no score of their own."""
        return version_with(self._bundle_version, self._score)

    def set_up(self, config: str, project: object, extra_params: object) -> str:
        """The model version for this project; its kind of score holds until it is set up again, as Label Studio does before it asks.

        Raises BadLabelConfig, BadRequest.
        """
        self.target(config)
        score = score_wanted(extra_params, self._score)
        if isinstance(project, str) and len(project) <= PROJECT_CHARACTERS:
            self._project_scores.pop(project, None)
            if score != self._score:
                self._project_scores[project] = score
                if len(self._project_scores) > MAX_PROJECTS:
                    self._project_scores.popitem(last=False)
        return version_with(self._bundle_version, score)

    async def predict(self, tasks: list[Any], config: str, project: object = None) -> Answer:
        """One prediction a task, in order; `project` as Label Studio named it at set-up.

        Raises BadLabelConfig, Overloaded, DeadlineExceeded, EngineFailed, Unavailable.
        """
        deadline = time.monotonic() + self._timeout
        target = self.target(config)
        score = self._project_scores.get(project, self._score) if isinstance(project, str) else self._score
        version = version_with(self._bundle_version, score)
        texts = [text_of(task.get("data") if isinstance(task, dict) else None, target.field) for task in tasks]
        present = [text for text in texts if text is not None]
        started = time.perf_counter()
        rows = await self._encode(present)
        encoded = time.perf_counter()
        answers = iter(())
        if rows:
            lane = Lane.INTERACTIVE if len(tasks) == 1 else Lane.BULK
            answers = iter(await self._batcher.submit(rows, lane, seconds=max(0.0, deadline - time.monotonic())))
        run = time.perf_counter()

        def answer(text: str | None) -> Prediction:
            return empty_prediction(version) if text is None else prediction(target, version, text, next(answers), score)

        predictions = await _gently(answer, texts)
        done = time.perf_counter()
        return Answer(predictions, {"tokenize": encoded - started, "model": run - encoded, "results": done - run})

    async def _encode(self, texts: list[str]) -> list[Ids]:
        if any(len(text) > LONG_TEXT for text in texts):
            return await asyncio.to_thread(lambda: [self._tokenizer.encode(text) for text in texts])
        return await _gently(self._tokenizer.encode, texts)


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
