"""HTTP client for an ML backend: GET /health, POST /setup and POST /predict, as Label Studio sends them."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from server.label_studio.credentials import BasicAuth

DETAIL_CHARACTERS = 500
"""How much of a backend's own error message is kept."""


class NoResponse(Exception):
    """The backend did not respond. The message is the name of httpx's error."""


@dataclass(frozen=True)
class BackendResponse:
    """`body` is the JSON object of the response, None if it holds anything else; `retry_after` is in
    seconds.
    """

    status: int
    reason: str
    content_type: str
    retry_after: float | None
    body: dict[str, Any] | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_up(self) -> bool:
        """Whether this is how an ML backend responds to GET /health."""
        return self.is_success and self.get("status") == "UP"

    @property
    def detail(self) -> str | None:
        """The backend's own error message, in one line."""
        detail = self.get("detail")
        return " ".join(detail.split())[:DETAIL_CHARACTERS] if isinstance(detail, str) and detail else None

    @property
    def problem(self) -> str:
        """The backend's own error message, or the HTTP status."""
        return self.detail or f"{self.status} {self.reason}".rstrip()

    def get(self, key: str) -> Any:
        return (self.body or {}).get(key)

    def __str__(self) -> str:
        return f"HTTP {self.status}, {self.content_type}"


class MlBackendClient:
    """The ML backend at `url`, which has no slash at its end. `timeout` in seconds, for each request.

    Redirects are not followed: credentials and tasks go to the server that the user named and to no other.
    Methods raise NoResponse.
    """

    def __init__(
        self,
        url: str,
        auth: BasicAuth | None,
        timeout: float,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self.has_credentials = auth is not None
        self._client = httpx.Client(
            timeout=timeout, auth=(auth.user, auth.password) if auth else None, transport=transport
        )

    def __enter__(self) -> "MlBackendClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def health(self) -> BackendResponse:
        return self._request("GET", "health")

    def setup(self, project: str, label_config: str, extra_params: Any) -> BackendResponse:
        body = {"project": project, "schema": label_config, "extra_params": extra_params}
        return self._request("POST", "setup", body)

    def predict(self, project: str, label_config: str, tasks: list[dict[str, Any]]) -> BackendResponse:
        body = {"tasks": tasks, "project": project, "label_config": label_config, "params": {}}
        return self._request("POST", "predict", body)

    def _request(self, method: Literal["GET", "POST"], path: str, body: Any = None) -> BackendResponse:
        # ASCII, because a text may hold a lone surrogate, which UTF-8 cannot encode
        content = None if body is None else json.dumps(body).encode("ascii")
        headers = None if body is None else {"Content-Type": "application/json"}
        try:
            response = self._client.request(method, f"{self.url}/{path}", content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoResponse(type(error).__name__) from None
        retry_after = response.headers.get("retry-after", "")
        return BackendResponse(
            response.status_code,
            response.reason_phrase,
            response.headers.get("content-type", "no content type").partition(";")[0],
            float(retry_after) if retry_after.isdecimal() else None,  # the header may hold a date too
            _object(response),
        )


def _object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        value = response.json()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
