"""Tasks → predictions through an ML backend: POST /setup once, then POST /predict, as Label Studio does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from server.annotate.bisect_batch import BatchRefused
from server.annotate.prediction_source import OpenSource, PredictionSource, is_usable_score
from server.errors import BackendFailed
from server.label_studio.credentials import BasicAuth
from server.label_studio.ml_backend_client import BackendResponse, MlBackendClient, NoResponse
from server.label_studio.predictions import Prediction
from server.label_studio.project_tasks import Task

TASKS = 500
"""Tasks per request: few enough that a slow backend responds in time."""

SECONDS = 100.0
"""How long Label Studio waits for an ML backend's response."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each retry, unless the backend sends Retry-After."""

LONGEST_PAUSE = 120.0

BUSY = (429, 502, 503, 504)
REFUSED = (400, 413, 500)
"""Statuses that a single task in the list may cause."""


@contextmanager
def open_backend(
    url: str, auth: BasicAuth | None, extra_params: dict[str, Any], wait: Callable[[float], Any]
) -> Iterator[OpenSource]:
    """The ML backend at `url`; `wait` sleeps for the seconds before a retry. The yielded function raises
    BackendFailed.
    """
    with MlBackendClient(url, auth, SECONDS) as client:
        yield BackendSource(client, extra_params, wait).source


@dataclass(frozen=True)
class BackendSource:
    """An ML backend and the extra params to set it up with. `wait` sleeps for the seconds before a retry."""

    client: MlBackendClient
    extra_params: dict[str, Any]
    wait: Callable[[float], Any]

    def source(self, project: int, label_config: str) -> PredictionSource:
        """Set the backend up for a labeling config. Raises BackendFailed."""
        url = self.client.url
        # a project name of its own leaves Label Studio's own set-up for the project unchanged
        name = f"{project}.annotate"
        try:
            body = self._call("setup", lambda: self.client.setup(name, label_config, self.extra_params))
        except BatchRefused as error:
            raise BackendFailed(f"{url}: the ML backend cannot be set up: {error}.") from None
        version = body.get("model_version")
        if not isinstance(version, str) or not version:
            raise BackendFailed(
                f"{url}/setup: expected a model_version, found {version!r}; annotate needs one to know which "
                "tasks have a prediction."
            )

        truncated = 0

        def predict(tasks: list[Task]) -> list[Prediction | None]:
            nonlocal truncated
            body = self._call("predict", lambda: self.client.predict(name, label_config, tasks))
            results = body.get("results")
            if not isinstance(results, list) or len(results) != len(tasks):
                count = len(results) if isinstance(results, list) else "no"
                raise BatchRefused(f"the ML backend returned {count} results for {len(tasks)} tasks")
            truncated += _truncated(body)
            return [_prediction(result, version) for result in results]

        return PredictionSource(version, predict, TASKS, lambda: truncated)

    def _call(self, path: str, request: Callable[[], BackendResponse]) -> dict[str, Any]:
        """The JSON object of the response; a busy backend is tried again. Raises BackendFailed,
        BatchRefused.
        """
        for pause in (*PAUSES, None):
            try:
                response = request()
            except NoResponse as error:
                problem, seconds = f"no response ({error}); check the URL and that the ML backend runs", pause
            else:
                if response.status not in BUSY:
                    return self._read(path, response)
                problem, seconds = response.problem, pause
                if pause is not None and response.retry_after is not None:
                    seconds = min(response.retry_after, LONGEST_PAUSE)
            if seconds is None:
                break
            self.wait(seconds)
        raise BackendFailed(f"{self.client.url}/{path}: {problem.rstrip('.')}.")

    def _read(self, path: str, response: BackendResponse) -> dict[str, Any]:
        url = f"{self.client.url}/{path}"
        if response.status in REFUSED:
            raise BatchRefused(response.problem)
        if response.status in (401, 403):
            raise BackendFailed(
                f"{url}: {response.status}: give the user and password of the ML backend with --basic-auth."
            )
        if not response.is_success:
            raise BackendFailed(f"{url}: {response.problem}")
        if response.body is None:
            raise BackendFailed(
                f"{url}: the response is not a JSON object; check that this is the URL of an ML backend."
            )
        return response.body


def _truncated(body: dict[str, Any]) -> int:
    """The number of truncated texts, which Prelabel's responses have if there are any."""
    meta = body.get("meta")
    found = meta.get("truncated") if isinstance(meta, dict) else None
    return found if isinstance(found, int) and found > 0 else 0


def _prediction(result: Any, version: str) -> Prediction | None:
    """The only or first prediction of a backend's result for one task; None if it is unusable."""
    first = result[0] if isinstance(result, list) and result else result
    if (
        not isinstance(first, dict)
        or not isinstance(first.get("result"), list)
        or not is_usable_score(first.get("score"))
    ):
        return None
    if first.get("model_version", version) != version:
        raise BackendFailed(
            f"The ML backend was set up with model version {version} and now predicts with "
            f"{first['model_version']}; run the command again."
        )
    score: Any = first.get("score")
    return Prediction(model_version=version, score=score, result=first["result"])
