"""The Open Inference Protocol, version 2, over HTTP: every bundle and every ensemble is a model of its name.

GET  /v2                                    the server and its extensions
GET  /v2/health/live, /v2/health/ready      as /live and /ready
GET  /v2/models/{name}                      inputs, outputs, and the labels in order
GET  /v2/models/{name}/ready                does this model answer
POST /v2/models/{name}/infer                texts → probabilities and labels

The last three also under /v2/models/{name}/versions/{version}, for the version that serves.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as version_of
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.endpoints import BODY, QUEUE, Handler, Operation
from server.api.guards import RouteGuard
from server.api.open_inference_codec import (
    EXTENSIONS,
    HEADER_LENGTH,
    INPUT,
    InferAnswer,
    InferRequest,
    count_texts,
    header_length,
    read_request,
    read_texts,
    write_answer,
)
from server.errors import BodyEncoded, NotServed
from server.models.ensemble import Ensemble
from server.observability.access_log import RequestContext
from server.observability.project_activity import ProjectActivity
from server.prediction.predictor import Predictor
from server.transport.json_codec import parsed
from server.transport.middleware import context_of
from server.transport.request_body import read_body, while_connected
from server.transport.responses import Json, server_timing

PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "torchscript": "pytorch_torchscript",
    "tables": "prelabel_tables",
    "fused": "prelabel_fused",
}
"""The protocol's names, `<project>_<format>`, by engine."""

LARGE = 16_384
"""Bytes of a body from which its texts are taken out in a thread: of the shortest it holds thousands."""

MANY = 4_096
"""Probabilities from which an answer is written in a thread."""


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: tuple[str, ...]


class ServerLive(msgspec.Struct):
    live: bool


class ServerReady(msgspec.Struct, omit_defaults=True):
    """`error` says why not."""

    ready: bool
    error: str | None = None


class ModelReady(msgspec.Struct, omit_defaults=True):
    """`error` says why not."""

    name: str
    ready: bool
    error: str | None = None


class TensorParameters(msgspec.Struct):
    labels: Annotated[
        tuple[str, ...], Meta(description="What each column of the tensor is the probability of.")
    ]


class Tensor(msgspec.Struct, omit_defaults=True):
    """Of a `shape` -1 is as long as there are texts."""

    name: str
    datatype: str
    shape: list[int]
    parameters: TensorParameters | None = None


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


SERVER = Operation("GET", "/v2", "caller", "The server and its extensions", ServerMetadata)
LIVE = Operation("GET", "/v2/health/live", "health", "Does the server answer at all", ServerLive)
READY = Operation(
    "GET", "/v2/health/ready", "health", "Do all models answer", ServerReady, otherwise={503: ServerReady}
)
MODEL = Operation(
    "GET", "/v2/models/{name}", "caller", "A model's inputs and outputs", ModelMetadata, refuses=(NotServed,)
)
MODEL_READY = Operation(
    "GET",
    "/v2/models/{name}/ready",
    "health",
    "Does this model answer",
    ModelReady,
    refuses=(NotServed,),
    otherwise={503: ModelReady},
)
INFER = Operation(
    "POST",
    "/v2/models/{name}/infer",
    "caller",
    "Texts to probabilities and labels",
    InferAnswer,
    takes=InferRequest,
    example={
        "id": "1",
        "inputs": [{"name": INPUT, "shape": [2], "datatype": "BYTES", "data": ["A fine film.", "Dull."]}],
    },
    refuses=(NotServed, BodyEncoded, *BODY, *QUEUE),
    binary=True,
)


@dataclass(frozen=True)
class InferenceServer:
    """The protocol for all models, each a predictor by its name. `current` gives what answers under a name,
    `unhealthy_reason` why it does not, if so, and `any_unhealthy_reason` why any of them does not.
    """

    predictors: Mapping[str, Predictor]
    current: Callable[[str], Ensemble]
    unhealthy_reason: Callable[[str], str | None]
    any_unhealthy_reason: Callable[[], str | None]
    activity: ProjectActivity
    guard: RouteGuard

    def routes(self) -> list[BaseRoute]:
        of_a_model: Sequence[tuple[Operation, Handler]] = (
            (MODEL, self.metadata),
            (MODEL_READY, self.model_ready),
            (INFER, self.infer),
        )
        return [
            self.guard.route(SERVER, self.server),
            self.guard.route(LIVE, self.live),
            self.guard.route(READY, self.ready),
            *(self.guard.route(operation, handler) for operation, handler in of_a_model),
            *(self.guard.route(_of_version(operation), handler) for operation, handler in of_a_model),
        ]

    async def server(self, request: Request) -> Json:
        return Json(ServerMetadata("prelabel", version_of("prelabel"), EXTENSIONS))

    async def live(self, request: Request) -> Json:
        return Json(ServerLive(live=True))

    async def ready(self, request: Request) -> Json:
        unhealthy_reason = self.any_unhealthy_reason()
        return Json(
            ServerReady(unhealthy_reason is None, unhealthy_reason), 200 if unhealthy_reason is None else 503
        )

    async def metadata(self, request: Request) -> Json:
        name, model = self._model(request)
        engine = model.members[0].model.engine.name
        return Json(
            ModelMetadata(
                name,
                [model.version],
                PLATFORMS.get(engine, engine) if len(model.members) == 1 else "ensemble",
                [Tensor(INPUT, "BYTES", [-1])],
                [
                    Tensor("probabilities", "FP32", [-1, len(model.labels)], TensorParameters(model.labels)),
                    Tensor("label", "BYTES", [-1]),
                ],
            )
        )

    async def model_ready(self, request: Request) -> Json:
        name, _ = self._model(request)
        unhealthy_reason = self.unhealthy_reason(name)
        return Json(
            ModelReady(name, unhealthy_reason is None, unhealthy_reason),
            200 if unhealthy_reason is None else 503,
        )

    async def infer(self, request: Request) -> Response:
        name, _ = self._model(request)
        with self.guard.admission.request() as ticket:
            if request.headers.get("content-encoding", "identity") != "identity":
                raise BodyEncoded(
                    "Content-Encoding: expected a body as it is, found one that is compressed; send it "
                    "without compression."
                )
            raw = await read_body(request, self.guard.body, ticket)
            async with while_connected(request):
                return await self._inferred(name, request, raw, context_of(request))

    async def _inferred(
        self, name: str, request: Request, raw: bytearray, context: RequestContext
    ) -> Response:
        received = time.perf_counter()
        size = len(raw)
        head = header_length(request.headers.get(HEADER_LENGTH), size)
        asked = await parsed(read_request, raw if head == size else raw[:head])
        context.tasks = count = count_texts(asked, self.guard.max_tasks)
        behind = memoryview(raw)[head:]
        texts = (
            read_texts(asked, count, behind)
            if size < LARGE
            else await asyncio.to_thread(read_texts, asked, count, behind)
        )
        behind.release()
        raw.clear()
        done = time.perf_counter()
        self._model(request)  # which may be another version by now
        answer = await self.predictors[name].classify(texts)
        self.activity.predicted(name, None, predicted=count, empty=0, failed=0)
        context.tokens, context.seconds, context.prediction_stats = (
            answer.tokens,
            answer.seconds,
            answer.prediction_stats,
        )
        predicted = time.perf_counter()
        write = partial(write_answer, asked, name, answer.version, answer.labels, answer.probabilities)
        body, json_size = write() if answer.probabilities.size < MANY else await asyncio.to_thread(write)
        response = Response(
            body, media_type="application/json" if json_size is None else "application/octet-stream"
        )
        if json_size is not None:
            response.headers[HEADER_LENGTH] = str(json_size)
        written = time.perf_counter()
        stages = {stage: answer.seconds[stage] for stage in ("tokenize", "queue", "engine")}
        response.headers["Server-Timing"] = server_timing(
            {"parse": done - received, **stages, "write": written - predicted, "total": written - received}
        )
        return response

    def _model(self, request: Request) -> tuple[str, Ensemble]:
        """The model that the path names. Raises NotServed."""
        name, version = request.path_params["name"], request.path_params.get("version")
        if name not in self.predictors:
            raise NotServed(f"No model of that name is served; these are: {', '.join(self.predictors)}.")
        request.state.model = name
        model = self.current(name)
        if version not in (None, model.version):
            raise NotServed(f"{name} is not served in that version but in {model.version}.")
        return name, model


def _of_version(operation: Operation) -> Operation:
    return replace(
        operation,
        path=operation.path.replace("{name}", "{name}/versions/{version}"),
        summary=f"{operation.summary}: of this version",
    )
