"""Label Studio's ML backend protocol, for one model.

GET  /            the model, and the recent activity of each project
GET  /health      whether the model is up, and its version
POST /setup       whether the model can serve a project's labeling config → the model version
POST /predict     tasks → one prediction per task, in order
GET  /versions    the model versions that this server can answer with
POST /webhook     stored if the server learns, else only acknowledged
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.endpoints import Endpoint, Handler
from server.api.guards import RouteGuard
from server.api.inference import respond
from server.api.learning import Learning
from server.api.ml_backend_codec import label_config_of, parse_tasks, task_data
from server.api.schemas import (
    HEALTH,
    PREDICT,
    SET_UP,
    STATUS,
    VERSIONS,
    WEBHOOK,
    SetUp,
    SetUpAnswer,
    Status,
    Up,
    Webhook,
)
from server.api.server_status import ServerStatus
from server.api.webhook_codec import parse_event
from server.label_studio.extra_params import requested_learning
from server.learning.receiver import NO_JOB, OFF, ProjectSetUp
from server.observability.access_log import RequestContext
from server.observability.project_activity import ProjectActivity, name_of
from server.prediction.answer import Answer
from server.prediction.predictor import Predictor
from server.prediction.task_texts import Tasks
from server.transport.middleware import context_of
from server.transport.request_body import while_connected
from server.transport.responses import Json, JsonParts, large_json

log = logging.getLogger(__name__)

NO_TRAINING = (
    "This server does not learn; start it with --learn, or train with `prelabel train` and serve the bundle."
)


@dataclass(frozen=True)
class MlBackend:
    """The endpoints of the model `name`."""

    name: str
    predictor: Predictor
    activity: ProjectActivity
    guard: RouteGuard
    server: ServerStatus
    learning: Learning | None = None

    def routes(self) -> list[BaseRoute]:
        handlers: Sequence[tuple[Endpoint, Handler]] = (
            (STATUS, self.status),
            (HEALTH, self.health),
            (SET_UP, self.setup),
            (PREDICT, self.predict),
            (VERSIONS, self.versions),
            (WEBHOOK, self.webhook),
        )
        return [self.guard.route(endpoint, handler, self.name) for endpoint, handler in handlers]

    async def status(self, request: Request) -> Response:
        learning = [] if self.learning is None else await self.learning.status(self.name)
        status: Status = {**self._up(), **self.activity.snapshot(self.name), "learning": learning}
        return await large_json(status)

    async def health(self, request: Request) -> Json:
        reason = self.server.health.unhealthy_reason(self.name)
        if reason is None:
            return Json(self._up())
        return Json({**self._up(), "status": "DOWN", "detail": reason}, 503)

    async def setup(self, request: Request) -> Json:
        bodies = self.guard.control_bodies
        async with bodies.json_fields(request, SetUp) as body, while_connected(request):
            project = context_of(request).project = body["project"]
            config = label_config_of(body, "schema")
            requested = requested_learning(body["extra_params"])
            learning = await self._set_up_learning(project, config, requested)
            set_up = await self.predictor.set_up(config, project, body["extra_params"])
        version, served = set_up.version, set_up.served
        if self.activity.set_up(self.name, project, version, served):
            log.info("project %s, model %s: set up with %s: %s", name_of(project), self.name, version, served)
        learned = None if learning is None else learning.get("control") or learning.get("reason")
        self.activity.learning(self.name, project, learned)
        answer: SetUpAnswer = {"model_version": version}
        return Json(answer if learning is None else {**answer, "learning": learning})

    async def _set_up_learning(
        self, project: object, config: str, requested: str | bool
    ) -> ProjectSetUp | None:
        if self.learning is None:
            return OFF if requested else None
        return await self.learning.set_up(self.name, project, config, requested)

    async def predict(self, request: Request) -> Response:
        return await respond(request, self.guard.prediction_bodies, TasksCall(self, context_of(request)))

    async def versions(self, request: Request) -> Json:
        return Json({"versions": [self.predictor.version]})

    async def webhook(self, request: Request) -> Json:
        if self.learning is not None:
            return await self._learn(request, self.learning)
        async with self.guard.control_bodies.json_fields(request, Webhook) as body:
            if body["action"] != "START_TRAINING":
                return Json({"status": "ignored"})
            log.warning("Start Training was requested: %s", NO_TRAINING)
            return Json({"status": NO_TRAINING, "job": NO_JOB})

    async def _learn(self, request: Request, learning: Learning) -> Json:
        bodies = self.guard.webhook_bodies
        with bodies.admission.request() as ticket:
            event = await parse_event(await bodies.read(request, ticket), self.guard.max_text)
            return Json(await learning.receive(event))

    def _up(self) -> Up:
        return {"status": "UP", "model_version": self.predictor.version, **self.server.describe(self.name)}


@dataclass(frozen=True)
class ParsedTasks:
    """`data` of each task (None for a task without), to be read by `label_config`."""

    data: Tasks
    label_config: str
    project: object


@dataclass(frozen=True)
class TasksCall:
    """One `POST /predict`."""

    backend: MlBackend
    context: RequestContext

    async def parse(self, body: bytearray) -> ParsedTasks:
        fields = await parse_tasks(body, self.backend.guard.max_text, self.backend.guard.max_tasks)
        project = self.context.project = fields.get("project")
        data = task_data(fields, self.backend.guard.max_tasks)
        self.context.tasks = len(data)
        return ParsedTasks(data, label_config_of(fields, "label_config"), project)

    async def predict(self, parsed: ParsedTasks) -> Answer:
        backend, context = self.backend, self.context
        answer = await backend.predictor.predict(parsed.data, parsed.label_config, parsed.project)
        backend.activity.predicted(
            backend.name,
            parsed.project,
            predicted=answer.predicted,
            empty=answer.empty,
            failed=answer.failed,
            truncated=answer.truncated,
            config=answer.config,
            empty_because=answer.empty_because,
        )
        if answer.failure is not None:
            backend.activity.on_error(backend.name, parsed.project, answer.failure)
        context.empty, context.failed = answer.empty, answer.failed
        return answer

    async def write(self, parsed: ParsedTasks, answer: Answer) -> Response:
        return JsonParts(answer.parts())
