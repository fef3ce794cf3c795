"""The Open Inference Protocol, version 2, over HTTP. Every bundle and every ensemble is a model.

GET  /v2                                    the server and its extensions
GET  /v2/health/live, /v2/health/ready      as /live and /ready
GET  /v2/models/{name}                      inputs, outputs, and the labels in order
GET  /v2/models/{name}/ready                whether this model answers
POST /v2/models/{name}/infer                texts, or token ids → probabilities and labels

The last three also under /v2/models/{name}/versions/{version}, for the version that is served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as version_of

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.api.endpoints import Endpoint, Handler
from server.api.guards import RouteGuard
from server.api.inference import respond
from server.api.open_inference_codec import (
    HEADER_LENGTH,
    ParsedInferRequest,
    header_length,
    read_body,
    write_answer,
)
from server.api.open_inference_schemas import (
    EXTENSIONS,
    INFER,
    INPUT,
    LIVE,
    MODEL,
    MODEL_READY,
    READY,
    SERVER,
    TOKEN_INPUTS,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Tensor,
    TensorParameters,
    TextTensor,
    TextTensorParameters,
    TokenTensor,
    TokenTensorParameters,
)
from server.api.server_status import ServerStatus
from server.encoders.transformer.encoder import TransformerEncoder
from server.errors import NotServed
from server.models.ensemble import Ensemble
from server.observability.project_activity import ProjectActivity
from server.prediction.answer import Classified
from server.prediction.predictor import Predictor
from server.prediction.token_rows import TokenRows
from server.threads import in_thread
from server.transport.middleware import context_of
from server.transport.responses import Json

VERSION = version_of("prelabel")
"""Read once: it is in a file, and requests are answered on the event loop."""

PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "torchscript": "pytorch_torchscript",
    "tables": "prelabel_tables",
}
"""The protocol's platform names, `<project>_<format>`, by engine."""

READ_IN_THREAD_BYTES = 16_384
"""Bytes of a body from which texts are read in a thread: it may hold thousands of short ones."""

WRITE_IN_THREAD_PROBABILITIES = 4_096
"""Probabilities from which an answer is written in a thread."""


@dataclass(frozen=True)
class InferenceServer:
    """The endpoints of all models; `predictors` by the name of their model."""

    predictors: Mapping[str, Predictor]
    activity: ProjectActivity
    guard: RouteGuard
    status: ServerStatus

    def routes(self) -> list[BaseRoute]:
        of_a_model: Sequence[tuple[Endpoint, Handler]] = (
            (MODEL, self.metadata),
            (MODEL_READY, self.model_ready),
            (INFER, self.infer),
        )
        return [
            self.guard.route(SERVER, self.server),
            self.guard.route(LIVE, self.live),
            self.guard.route(READY, self.ready),
            *(self.guard.route(endpoint, handler) for endpoint, handler in of_a_model),
            *(self.guard.route(_with_version(endpoint), handler) for endpoint, handler in of_a_model),
        ]

    async def server(self, request: Request) -> Json:
        return Json(ServerMetadata("prelabel", VERSION, EXTENSIONS))

    async def live(self, request: Request) -> Json:
        reason = self.status.health.crash_reason()
        return Json(ServerLive(reason is None, reason), 200 if reason is None else 503)

    async def ready(self, request: Request) -> Json:
        reason = self.status.health.first_unhealthy_reason()
        return Json(ServerReady(reason is None, reason), 200 if reason is None else 503)

    async def metadata(self, request: Request) -> Json:
        name, model = self.model_of(request)
        engine = model.members[0].model.engine.name
        return Json(
            ModelMetadata(
                name,
                [model.version],
                PLATFORMS.get(engine, engine) if len(model.members) == 1 else "ensemble",
                [TextTensor(INPUT, "BYTES", [-1], _alternative(model.only_transformer))],
                [
                    Tensor("probabilities", "FP32", [-1, len(model.labels)], TensorParameters(model.labels)),
                    Tensor("label", "BYTES", [-1]),
                ],
            )
        )

    async def model_ready(self, request: Request) -> Json:
        name, _ = self.model_of(request)
        reason = self.status.health.unhealthy_reason(name)
        return Json(ModelReady(name, reason is None, reason), 200 if reason is None else 503)

    async def infer(self, request: Request) -> Response:
        name, _ = self.model_of(request)
        return await respond(request, self.guard.prediction_bodies, TextsCall(self, name, request))

    def model_of(self, request: Request) -> tuple[str, Ensemble]:
        """The name and the model of the path. Raises NotServed."""
        name, version = request.path_params["name"], request.path_params.get("version")
        if name not in self.predictors:
            raise NotServed(f"No model of that name is served; served are: {', '.join(self.predictors)}.")
        request.state.model = name
        model = self.status.registry.current(name)
        if version not in (None, model.version):
            raise NotServed(f"{name} is not served in that version; its version is {model.version}.")
        return name, model


@dataclass(frozen=True)
class TextsCall:
    """One `POST /v2/models/{name}/infer`."""

    server: InferenceServer
    name: str
    request: Request

    async def parse(self, body: bytearray) -> ParsedInferRequest:
        json_size = header_length(self.request.headers.get(HEADER_LENGTH), len(body))
        guard = self.server.guard
        _, model = self.server.model_of(self.request)
        read = partial(read_body, body, json_size, guard.max_tasks, guard.max_text, model.only_transformer)
        parsed = read() if len(body) < READ_IN_THREAD_BYTES else await in_thread(read)
        context_of(self.request).tasks = len(parsed.texts)
        return parsed

    async def predict(self, parsed: ParsedInferRequest) -> Classified:
        self.server.model_of(self.request)  # a reload may have replaced the version while the body arrived
        predictor, texts = self.server.predictors[self.name], parsed.texts
        answer = await (
            predictor.classify_tokens(texts) if isinstance(texts, TokenRows) else predictor.classify(texts)
        )
        self.server.activity.predicted(
            self.name, None, predicted=len(texts), empty=0, failed=0, truncated=answer.truncated
        )
        return answer

    async def write(self, parsed: ParsedInferRequest, answer: Classified) -> Response:
        write = partial(
            write_answer,
            parsed,
            self.name,
            answer.version,
            answer.labels,
            answer.probabilities,
            truncated=answer.truncated,
        )
        body, json_size = (
            write() if answer.probabilities.size < WRITE_IN_THREAD_PROBABILITIES else await in_thread(write)
        )
        if json_size is None:
            return Response(body, media_type="application/json")
        return Response(body, headers={HEADER_LENGTH: str(json_size)}, media_type="application/octet-stream")


def _alternative(transformer: TransformerEncoder | None) -> TextTensorParameters | None:
    """What may be sent instead of texts."""
    if transformer is None:
        return None
    ids, mask = TOKEN_INPUTS
    longest, vocabulary = transformer.max_length, transformer.spec.vocabulary
    return TextTensorParameters(
        [
            TokenTensor(ids, "INT64", [-1, -1], TokenTensorParameters(False, longest, vocabulary)),
            TokenTensor(mask, "INT64", [-1, -1], TokenTensorParameters(True, longest)),
        ]
    )


def _with_version(endpoint: Endpoint) -> Endpoint:
    return replace(
        endpoint,
        path=endpoint.path.replace("{name}", "{name}/versions/{version}"),
        summary=f"{endpoint.summary}: of this version",
    )
