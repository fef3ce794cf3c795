"""Asks an ML backend, as Label Studio would, whether it is up and can serve a labeling config. Label Studio
hides both from its users.
"""

from dataclasses import dataclass
from typing import Any

from server.label_studio.ml_backend_client import BackendResponse, MlBackendClient, NoResponse

SECONDS = 5.0
"""Timeout of each request."""

CHECK_URL = (
    "Check --backend: host, port, and, on a server with several bundles, the bundle's name as its path."
)
SEE_LOG = "See the backend's log for the reason."


@dataclass(frozen=True)
class BackendSetUp:
    """The model version with which a backend serves a project. `learning` is what it says of learning: None
    unless the project wants to learn, and of a server that knows no learning.
    """

    version: str
    learning: Any = None


class BackendProblem(Exception):
    """What is wrong with the backend; `remedy` is what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def set_up(client: MlBackendClient, project: str, label_config: str, extra_params: Any) -> BackendSetUp:
    """How the backend serves a project. Raises BackendProblem."""
    try:
        health = client.health()
        if health.status == 401:
            raise _unauthorized(client)
        if not health.is_up:
            raise BackendProblem(
                f"{client.url} responds, but not as an ML backend: GET /health: {health}.", CHECK_URL
            )
        response = client.setup(project, label_config, extra_params)
        return BackendSetUp(_version(client, response), response.get("learning"))
    except NoResponse as error:
        raise BackendProblem(
            f"The backend {client.url} does not respond to this machine ({error}).",
            "Start it (prelabel serve), or correct --backend. If only Label Studio can reach it, as in a "
            "container network, run this command there.",
        ) from None


def is_ml_backend(url: str) -> bool:
    """Whether an ML backend responds at `url`."""
    try:
        with MlBackendClient(url.rstrip("/"), None, SECONDS) as client:
            return client.health().is_up
    except NoResponse:
        return False


def _version(client: MlBackendClient, response: BackendResponse) -> str:
    """The model version in a response to POST /setup. Raises BackendProblem."""
    if response.status in (404, 405):
        raise BackendProblem(
            f"{client.url} responds, but not as an ML backend: POST /setup: {response}.", CHECK_URL
        )
    if response.status == 401:
        raise _unauthorized(client)
    if response.status == 422 and response.detail:
        raise BackendProblem(
            f"The backend cannot serve the project's labeling config: {response.detail}",
            "Change the config under Settings → Labeling Interface, or map the choices when serving: --map "
            "LABEL=CHOICE.",
        )
    if 400 <= response.status < 500 and response.detail:
        raise BackendProblem(
            f"The backend refuses to be set up for this project: {response.detail}",
            "Correct what the message names.",
        )
    version = response.get("model_version")
    if not response.is_success or not isinstance(version, str) or not version:
        raise BackendProblem(f"The backend returns no model version: POST /setup: {response}.", SEE_LOG)
    return version


def _unauthorized(client: MlBackendClient) -> BackendProblem:
    if client.has_credentials:
        return BackendProblem(
            "The backend does not accept this user and password.",
            "Give those that the server was started with (PRELABEL_BASIC_AUTH_USER, …_PASS).",
        )
    return BackendProblem(
        "The backend requires a user and a password.",
        "Give them: --basic-auth USER:PASSWORD, or PRELABEL_BASIC_AUTH_USER and PRELABEL_BASIC_AUTH_PASS.",
    )
