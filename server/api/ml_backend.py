"""URL → handler: JSON in, JSON out, as Label Studio's ML-backend protocol says. Each model has all of it,
under its name.

GET  /            what happened to each project: set-ups, counts, refusals, last errors
GET  /health      is it up, and with which model
GET  /live        does the event loop answer at all: for probes
GET  /ready       does all of the server answer, or why not: for probes
GET  /metrics     what was counted, for Prometheus
POST /setup       can it serve this project's labeling config → the model version
POST /predict     tasks → predictions, one a task, in order
GET  /versions    the model versions it can answer with
POST /webhook     answered at once; this server does not train

POST /admin/reload, /admin/rollback     a bundle's folder taken anew, or taken back; with the administrator's token
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import BaseRoute

from server.api.endpoints import Handler, Operation
from server.api.guards import RouteGuard
from server.api.ml_backend_codec import label_config_of, parse_tasks, tasks_of
from server.api.schemas import (
    HEALTH,
    PREDICT,
    SET_UP,
    STATUS,
    VERSIONS,
    WEBHOOK,
    ModelDescription,
    Status,
    Up,
)
from server.observability.access_log import RequestContext
from server.observability.project_activity import ProjectActivity, name_of
from server.prediction.predictor import Predictor
from server.transport.middleware import context_of
from server.transport.request_body import read_body, read_object, while_connected
from server.transport.responses import Json, server_timing

log = logging.getLogger(__name__)


NO_TRAINING = (
    "Training is not available on this server; train with `prelabel train` and serve the new bundle."
)


@dataclass(frozen=True)
class MlBackend:
    """The protocol for one model. `describe` gives what / and /health say of it besides its version,
    `unhealthy_reason` why it does not answer, if so.
    """

    name: str
    predictor: Predictor
    activity: ProjectActivity
    guard: RouteGuard
    describe: Callable[[], ModelDescription]
    unhealthy_reason: Callable[[], str | None]

    def routes(self) -> list[BaseRoute]:
        of_this: Sequence[tuple[Operation, Handler]] = (
            (STATUS, self.status),
            (HEALTH, self.health),
            (SET_UP, self.setup),
            (PREDICT, self.predict),
            (VERSIONS, self.versions),
            (WEBHOOK, self.webhook),
        )
        return [self.guard.route(operation, handler, self.name) for operation, handler in of_this]

    async def status(self, request: Request) -> Json:
        status: Status = {**self._up(), **self.activity.told(self.name)}
        return Json(status)

    async def health(self, request: Request) -> Json:
        unhealthy_reason = self.unhealthy_reason()
        return (
            Json(self._up())
            if unhealthy_reason is None
            else Json({**self._up(), "status": "DOWN", "detail": unhealthy_reason}, 503)
        )

    async def setup(self, request: Request) -> Json:
        body = await read_object(request, self.guard.body)
        project = context_of(request).project = body.get("project")
        version, plan = self.predictor.set_up(
            label_config_of(body, "schema"), project, body.get("extra_params")
        )
        if self.activity.set_up(self.name, project, version, plan.summary):
            log.info(
                "project %s, model %s: set up with %s: %s", name_of(project), self.name, version, plan.summary
            )
        return Json({"model_version": version})

    async def predict(self, request: Request) -> Json:
        with self.guard.admission.request() as ticket:
            raw = await read_body(request, self.guard.body, ticket)
            async with while_connected(request):
                return await self._predicted(raw, context_of(request))

    async def _predicted(self, raw: bytearray, context: RequestContext) -> Json:
        received = time.perf_counter()
        body = await parse_tasks(raw)
        raw.clear()
        parsed = time.perf_counter()
        project = context.project = body.get("project")
        tasks = tasks_of(body, self.guard.max_tasks)
        context.tasks = len(tasks)
        answer = await self.predictor.predict(tasks, label_config_of(body, "label_config"), project)
        counts = answer.count()
        self.activity.predicted(self.name, project, **counts)
        if answer.failure is not None:
            self.activity.refused(self.name, project, answer.failure)
        context.empty, context.failed, context.tokens = counts["empty"], counts["failed"], answer.tokens
        context.seconds, context.prediction_stats = answer.seconds, answer.prediction_stats
        predicted = time.perf_counter()
        response = Json({"results": answer.predictions})
        written = time.perf_counter()
        response.headers["Server-Timing"] = server_timing(
            {
                "parse": parsed - received,
                **answer.seconds,
                "write": written - predicted,
                "total": written - received,
            }
        )
        return response

    async def versions(self, request: Request) -> Json:
        return Json({"versions": [self.predictor.version]})

    async def webhook(self, request: Request) -> Json:
        body = await read_object(request, self.guard.body)
        if body.get("action") == "START_TRAINING":
            log.warning("Start Training was asked for: %s", NO_TRAINING)
            return Json({"status": NO_TRAINING, "job": "none"})
        return Json({"status": "ignored"})

    def _up(self) -> Up:
        return {"status": "UP", "model_version": self.predictor.version, **self.describe()}
