"""An ML backend as a source of predictions, asked the way Label Studio asks it: POST /setup once, then POST
/predict.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from server.annotate.bisect_batch import BatchRefused
from server.annotate.prediction_source import OpenSource, PredictionSource, usable_score
from server.annotate.task_query import Task
from server.errors import BackendFailed
from server.label_studio.credentials import BasicAuth
from server.label_studio.predictions import Prediction

TASKS = 500
"""Tasks in one request to an ML backend: an answer in good time from a slow one too."""

SECONDS = 100.0
"""What Label Studio itself waits for an ML backend's answer."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a repeat, where the backend does not name them (Retry-After)."""

LONGEST_PAUSE = 120.0

BUSY = (429, 502, 503, 504)
REFUSED = (400, 413, 500)
"""What may be due to one task in the list."""


@contextmanager
def open_backend(
    url: str, auth: BasicAuth | None, extra_params: dict[str, Any], wait: Callable[[float], Any]
) -> Iterator[OpenSource]:
    """An ML backend; `wait` takes the seconds before a repeat. What it yields raises BackendFailed."""
    with httpx.Client(auth=(auth.user, auth.password) if auth else None, timeout=SECONDS) as client:
        yield BackendSource(url, client, extra_params, wait).source


@dataclass(frozen=True)
class BackendSource:
    """An ML backend at `url`, without a slash at its end, and what it is asked for. `wait` takes the seconds
    before a repeat.
    """

    url: str
    client: httpx.Client
    extra_params: dict[str, Any]
    wait: Callable[[float], Any]

    def source(self, project: int, label_config: str) -> PredictionSource:
        """Set the backend up for a labeling config. Raises BackendFailed."""
        # a name of its own: what Label Studio has set up for the project stays as it is
        name = f"{project}.annotate"
        try:
            answer = self._post(
                "setup", {"project": name, "schema": label_config, "extra_params": self.extra_params}
            )
        except BatchRefused as refusal:
            raise BackendFailed(f"{self.url}: the ML backend cannot be set up: {refusal}.") from None
        version = answer.get("model_version")
        if not isinstance(version, str) or not version:
            raise BackendFailed(
                f"{self.url}/setup names no model_version; annotate needs one to tell which tasks have "
                "a prediction."
            )

        def predict(tasks: list[Task]) -> list[Prediction | None]:
            answers = self._post(
                "predict", {"tasks": tasks, "project": name, "label_config": label_config, "params": {}}
            ).get("results")
            if not isinstance(answers, list) or len(answers) != len(tasks):
                raise BatchRefused(
                    "the ML backend answered with "
                    f"{len(answers) if isinstance(answers, list) else 'no'} results for {len(tasks)} "
                    "tasks"
                )
            return [_prediction(answer, version) for answer in answers]

        return PredictionSource(version, predict, TASKS)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises BackendFailed, BatchRefused."""
        where = f"{self.url}/{path}"
        for pause in (*PAUSES, None):
            try:
                # as ASCII, for a text may hold half a character, which UTF-8 cannot
                response = self.client.post(
                    where, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError as error:
                seconds, problem = (
                    pause,
                    f"no answer ({type(error).__name__}); check the URL and that the ML backend runs",
                )
            else:
                if response.status_code not in BUSY:
                    return self._read(response, where)
                problem = _words(response)
                seconds = pause if pause is None else _retry_after(response, pause)
            if seconds is None:
                raise BackendFailed(f"{where}: {problem}.")
            self.wait(seconds)
        raise AssertionError("the last pause is None")

    def _read(self, response: httpx.Response, where: str) -> dict[str, Any]:
        if response.status_code in REFUSED:
            raise BatchRefused(_words(response))
        if response.status_code in (401, 403):
            raise BackendFailed(
                f"{where}: {response.status_code}: give the user and password that the ML backend "
                "expects with --basic-auth."
            )
        if not response.is_success:
            raise BackendFailed(f"{where}: {_words(response)}")
        answer = _json(response)
        if not isinstance(answer, dict):
            raise BackendFailed(
                f"{where}: the answer is not a JSON object; is this the URL of an ML backend?"
            )
        return answer


def _prediction(answer: Any, version: str) -> Prediction | None:
    """What is stored of a backend's answer for one task: its only or first prediction."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    if (
        not isinstance(first, dict)
        or not isinstance(first.get("result"), list)
        or not usable_score(first.get("score"))
    ):
        return None
    if first.get("model_version", version) != version:
        raise BackendFailed(
            f"The ML backend was set up as {version} and now answers as {first['model_version']}; run again."
        )
    score: Any = first.get("score")
    return Prediction(model_version=version, score=score, result=first["result"])


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    """The seconds that a busy backend asks for. Dates, which the header may hold too, are left to
    `otherwise`.
    """
    asked = response.headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else otherwise


def _words(response: httpx.Response) -> str:
    """What the backend says of an error, in its own words where it has some."""
    answer = _json(response)
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return " ".join(str(detail or f"{response.status_code} {response.reason_phrase}").split())[:500]


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
