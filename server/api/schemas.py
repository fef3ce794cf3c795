"""What Label Studio's ML-backend protocol, the probes and the administrator's routes take and answer: the
types that they are written against.
"""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from server.api.endpoints import BODY, QUEUE, Operation
from server.api.ml_backend_codec import PredictRequest
from server.errors import BadLabelConfig
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.label_studio.predictions import Prediction
from server.models.registry import Change
from server.observability.metrics_page import CONTENT_TYPE
from server.observability.project_activity import ActivitySnapshot


class Worker(TypedDict):
    """This process, and how many answer."""

    process: int
    of: int


class Degraded(TypedDict):
    """Whether the CPU answers where a GPU was expected, and why."""

    degraded: bool
    degraded_because: NotRequired[str]


class ModelDescription(Degraded):
    """What answers here, on what; `models` are the versions of all by name."""

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


class Health(Up):
    """`status` is UP, or DOWN with why in `detail`."""

    detail: NotRequired[str]


class Status(Up, ActivitySnapshot):
    """What answers, and what happened to each project."""


class SetUp(TypedDict):
    """A project as Label Studio names it, its labeling config, and the backend's extra parameters."""

    schema: Annotated[str, Meta(min_length=1, description="The project's labeling config.")]
    project: NotRequired[Any]
    extra_params: NotRequired[Any]


class SetUpAnswer(TypedDict):
    model_version: str


class Predicted(TypedDict):
    """One prediction a task, in order."""

    results: list[Prediction]


class Versions(TypedDict):
    versions: list[str]


class Webhook(TypedDict, total=False):
    action: Any


class WebhookAnswer(TypedDict):
    status: str
    job: NotRequired[str]


class Live(TypedDict):
    status: str


class Ready(TypedDict):
    """`detail` says why not."""

    status: str
    detail: NotRequired[str]


class ReloadRequest(TypedDict, total=False):
    """The name of a bundle; all without one."""

    bundle: str | None


class Changes(TypedDict):
    changes: list[Change]


STATUS = Operation("GET", "/", "caller", "What happened to each project", Status)
HEALTH = Operation(
    "GET", "/health", "health", "Is the model up, and which is it", Health, otherwise={503: Health}
)
SET_UP = Operation(
    "POST",
    "/setup",
    "caller",
    "Can this labeling config be served",
    SetUpAnswer,
    takes=SetUp,
    example={"project": "1.1795474444", "schema": TUTORIAL_CONFIG, "extra_params": None},
    refuses=(*BODY, BadLabelConfig),
)
PREDICT = Operation(
    "POST",
    "/predict",
    "caller",
    "Tasks to predictions",
    Predicted,
    takes=PredictRequest,
    example={
        "tasks": [{"id": 1, "data": {"review": "A fine film."}}],
        "label_config": TUTORIAL_CONFIG,
        "project": "1.1795474444",
    },
    refuses=(*BODY, BadLabelConfig, *QUEUE),
)
VERSIONS = Operation("GET", "/versions", "caller", "The model versions it can answer with", Versions)
WEBHOOK = Operation(
    "POST",
    "/webhook",
    "caller",
    "Label Studio's events, answered at once",
    WebhookAnswer,
    takes=Webhook,
    example={"action": "ANNOTATION_CREATED"},
    refuses=BODY,
)
LIVE = Operation("GET", "/live", "health", "Does the server answer at all", Live)
READY = Operation("GET", "/ready", "health", "Do all models answer", Ready, otherwise={503: Ready})
METRICS = Operation("GET", "/metrics", "health", "What was counted, for Prometheus", str, media=CONTENT_TYPE)
RELOAD = Operation(
    "POST",
    "/admin/reload",
    "admin",
    "Take bundles' folders anew",
    Changes,
    takes=ReloadRequest,
    example={},
    optional=True,
    refuses=BODY,
    otherwise={409: Changes},
)
ROLLBACK = Operation(
    "POST",
    "/admin/rollback",
    "admin",
    "Put back what was replaced",
    Changes,
    takes=ReloadRequest,
    example={},
    optional=True,
    refuses=BODY,
    otherwise={409: Changes},
)
