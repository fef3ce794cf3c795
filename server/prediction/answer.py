"""The results of one request, and their measurements."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.arrays import Floats
from server.errors import PrelabelError
from server.observability.prediction_stats import PredictionStats


@dataclass
class Answer:
    """The predictions for a request's tasks.

    `results` are JSON: the predictions of one micro-batch each, separated by commas, in the order of the
    tasks, `{}` where the model call failed or a text is too long. `failure` is the reason of one such
    failure. `predicted`, `empty` and `failed` count the tasks. `seconds` by stage: seconds of work for
    tokenize, engine and results, which overlap in a large request; for queue the mean wait of a text.
    `tokens` went into models; `truncated` texts were longer than one of these reads. `config` says which
    controls are predicted from which texts; `empty_because` why no task has a text, where the labeling config
    names fields that none has.
    """

    results: list[bytes]
    predicted: int
    empty: int
    failed: int
    seconds: Mapping[str, float]
    tokens: int
    truncated: int
    prediction_stats: PredictionStats
    config: str
    empty_because: str | None = None
    failure: PrelabelError | None = None

    @classmethod
    def without_predictions(cls, tasks: int, version: str, because: str) -> "Answer":
        """Label Studio stores nothing of it, and asks again when a task is opened the next time."""
        results = [b",".join([b"{}"] * tasks)] if tasks else []
        return cls(results, 0, tasks, 0, {}, 0, 0, PredictionStats(version, ()), because)

    def parts(self) -> list[bytes]:
        """The body `{"results": […]}`, in parts; with `"meta": {"truncated": N}` if texts were truncated."""
        separators = [b'{"results":[', *[b","] * (len(self.results) - 1)]
        body = [separator + results for separator, results in zip(separators, self.results, strict=False)]
        end = b'],"meta":{"truncated":%d}}' % self.truncated if self.truncated else b"]}"
        return [*body, end] if body else [b'{"results":[]}']


@dataclass(frozen=True)
class Classified:
    """What the model of this `version` answers for texts: `probabilities` float32[texts, labels]. `seconds`,
    `tokens`, `truncated` and `prediction_stats` as in Answer.
    """

    version: str
    labels: tuple[str, ...]
    probabilities: Floats
    seconds: Mapping[str, float]
    tokens: int
    truncated: int
    prediction_stats: PredictionStats


@dataclass
class Results:
    """The predictions of one micro-batch as JSON, separated by commas, and its tasks by outcome."""

    json: bytes
    predicted: int = 0
    empty: int = 0
    failed: int = 0
    failure: PrelabelError | None = None
