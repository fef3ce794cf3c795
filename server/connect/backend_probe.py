"""The ML backend as seen from here: is it up, and what does it say of a labeling config. Label Studio hides
both from its users.
"""

from typing import Any

import httpx

from server.label_studio.credentials import BasicAuth

SECONDS = 5.0
"""For one answer."""

CHECK_URL = (
    "Check --backend: host, port, and where the server has several bundles the bundle's name as its path."
)


class BackendFails(Exception):
    """What is wrong with the backend, and what to do."""

    def __init__(self, words: str, remedy: str) -> None:
        super().__init__(words, remedy)
        self.remedy = remedy

    def __str__(self) -> str:
        return str(self.args[0])


class BackendProbe:
    """The server at `url`. Use as a context manager."""

    def __init__(self, url: str, auth: BasicAuth | None) -> None:
        self.url = url
        self._has_auth = auth is not None
        self._client = httpx.Client(timeout=SECONDS, auth=(auth.user, auth.password) if auth else None)

    def __enter__(self) -> "BackendProbe":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def set_up(self, project: str, config: str, extra_params: Any) -> str:
        """The model version with which it serves a project, by Label Studio's own name for it. Raises
        BackendFails.
        """
        health = self._ask("GET", "health")
        if health.status_code == 401:
            raise BackendFails(*self._unauthorized())
        if not _is_up(health):
            raise BackendFails(
                f"{self.url} answers, but not as an ML backend: GET /health: {_in_short(health)}.", CHECK_URL
            )
        answer = self._ask(
            "POST", "setup", {"project": project, "schema": config, "extra_params": extra_params}
        )
        if answer.status_code in (404, 405):
            raise BackendFails(
                f"{self.url} answers, but not as an ML backend: POST /setup: {_in_short(answer)}.", CHECK_URL
            )
        if answer.status_code == 401:
            raise BackendFails(*self._unauthorized())
        detail = _object(answer).get("detail")
        if answer.status_code == 422 and isinstance(detail, str):
            raise BackendFails(
                f"The backend cannot serve the project's labeling config: {detail}",
                "Change it under Settings → Labeling Interface, or name the choices when serving: --map "
                "LABEL=CHOICE.",
            )
        if answer.is_client_error and isinstance(detail, str):
            raise BackendFails(
                f"The backend refuses to be set up for this project: {detail}", "Correct what it names."
            )
        version = _object(answer).get("model_version")
        if not answer.is_success or not isinstance(version, str) or not version:
            raise BackendFails(
                f"The backend does not say its model version: POST /setup: {_in_short(answer)}.",
                "The backend's log says more.",
            )
        return version

    def _unauthorized(self) -> tuple[str, str]:
        if self._has_auth:
            return (
                "The backend does not take this user and password.",
                "Give those that the server was started with (PRELABEL_BASIC_AUTH_USER, …_PASS).",
            )
        return (
            "The backend asks for a user and a password.",
            "Give them: --basic-auth USER:PASSWORD, or PRELABEL_BASIC_AUTH_USER and "
            "PRELABEL_BASIC_AUTH_PASS.",
        )

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            return self._client.request(method, f"{self.url}/{path}", json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BackendFails(
                f"The backend {self.url} does not answer here ({type(error).__name__}).",
                "Start it (prelabel serve), or correct --backend. Where only Label Studio reaches it, "
                "as within a network of containers, run this there.",
            ) from None


def answers_like_one(url: str) -> bool:
    """Is there an ML backend at `url`, one with or without a password."""
    try:
        return _is_up(httpx.get(f"{url.rstrip('/')}/health", timeout=SECONDS))
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _is_up(answer: httpx.Response) -> bool:
    return answer.is_success and _object(answer).get("status") == "UP"


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _in_short(answer: httpx.Response) -> str:
    kind = answer.headers.get("content-type", "no content type").partition(";")[0]
    return f"HTTP {answer.status_code}, {kind}"
