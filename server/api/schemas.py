"""Endpoints of the ML backend protocol, probes and admin, with their request and response types."""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from server.api.endpoints import BODY_ERRORS, INFERENCE_ERRORS, Endpoint
from server.api.learning import ProjectLearning
from server.api.ml_backend_codec import PredictRequest
from server.errors import BadLabelConfig, Unavailable
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.label_studio.predictions import Prediction
from server.learning.receiver import ProjectSetUp
from server.models.registry import Change
from server.observability.metrics_page import CONTENT_TYPE
from server.observability.project_activity import ActivitySnapshot


class Worker(TypedDict):
    """This process, and the number of processes that serve."""

    process: int
    of: int


class Degraded(TypedDict):
    """Whether the model runs on the CPU although a GPU was expected, and why."""

    degraded: bool
    degraded_because: NotRequired[str]


class ModelDescription(Degraded):
    """One model, its engine and its device; `models` gives the versions of all models by name."""

    model: str
    model_class: str
    engine: str
    device: str
    waiting_rows: int
    worker: Worker
    models: dict[str, str]


class Up(ModelDescription):
    status: str
    model_version: str


class HealthResponse(Up):
    """`status` is UP, or DOWN with the reason in `detail`."""

    detail: NotRequired[str]


class Status(Up, ActivitySnapshot):
    """The model, and the recent activity of each project. `learning` are the projects from whose annotations
    it learns.
    """

    learning: list[ProjectLearning]


class SetUp(TypedDict):
    """The project's name in Label Studio, its labeling config, and the backend's extra parameters."""

    schema: Annotated[str, Meta(min_length=1, description="The project's labeling config.")]
    project: NotRequired[Any]
    extra_params: NotRequired[Any]


class SetUpAnswer(TypedDict):
    """`learning` for projects that want to learn."""

    model_version: str
    learning: NotRequired[ProjectSetUp]


class PredictedMeta(TypedDict):
    """`truncated` counts the texts that were longer than the model reads, and were truncated."""

    truncated: int


class Predicted(TypedDict):
    """One prediction per task, in order. Without `meta`, no text was truncated; Label Studio ignores it."""

    results: list[Prediction]
    meta: NotRequired[PredictedMeta]


class Versions(TypedDict):
    versions: list[str]


class Webhook(TypedDict, total=False):
    """A server that learns also reads `project`, and `annotation`, `annotations`, `task` or `tasks`."""

    action: Any


class WebhookAnswer(TypedDict):
    status: str
    job: NotRequired[str]


class Live(TypedDict):
    """`detail` is the reason if not live."""

    status: str
    detail: NotRequired[str]


class Ready(TypedDict):
    """`detail` is the reason if not ready."""

    status: str
    detail: NotRequired[str]


class ReloadRequest(TypedDict, total=False):
    """The name of a bundle; without it, all bundles."""

    bundle: str | None


class Changes(TypedDict):
    changes: list[Change]


STATUS = Endpoint("GET", "/", "caller", "The model, and the recent activity of each project", Status)
HEALTH = Endpoint(
    "GET",
    "/health",
    "health",
    "Whether the model is up, and its version",
    HealthResponse,
    other_responses={503: HealthResponse},
)
SET_UP = Endpoint(
    "POST",
    "/setup",
    "caller",
    "Whether the model can serve this labeling config",
    SetUpAnswer,
    request_type=SetUp,
    example={"project": "1.1795474444", "schema": TUTORIAL_CONFIG, "extra_params": None},
    errors=(*BODY_ERRORS, BadLabelConfig),
)
PREDICT = Endpoint(
    "POST",
    "/predict",
    "caller",
    "Tasks to predictions",
    Predicted,
    request_type=PredictRequest,
    example={
        "tasks": [{"id": 1, "data": {"review": "A fine film."}}],
        "label_config": TUTORIAL_CONFIG,
        "project": "1.1795474444",
    },
    errors=(*BODY_ERRORS, BadLabelConfig, *INFERENCE_ERRORS),
)
VERSIONS = Endpoint(
    "GET", "/versions", "caller", "The model versions that this server can answer with", Versions
)
WEBHOOK = Endpoint(
    "POST",
    "/webhook",
    "caller",
    "What was annotated, for a server that learns",
    WebhookAnswer,
    request_type=Webhook,
    example={"action": "ANNOTATION_CREATED"},
    errors=(*BODY_ERRORS, Unavailable),
)
LIVE = Endpoint("GET", "/live", "health", "Whether the server responds", Live, other_responses={503: Live})
READY = Endpoint("GET", "/ready", "health", "Whether all models answer", Ready, other_responses={503: Ready})
METRICS = Endpoint("GET", "/metrics", "health", "Metrics for Prometheus", str, media_type=CONTENT_TYPE)
RELOAD = Endpoint(
    "POST",
    "/admin/reload",
    "admin",
    "Reload bundles from their folders",
    Changes,
    request_type=ReloadRequest,
    example={},
    body_optional=True,
    errors=BODY_ERRORS,
    other_responses={409: Changes},
)
ROLLBACK = Endpoint(
    "POST",
    "/admin/rollback",
    "admin",
    "Put back the bundles that the last reload replaced",
    Changes,
    request_type=ReloadRequest,
    example={},
    body_optional=True,
    errors=BODY_ERRORS,
    other_responses={409: Changes},
)
