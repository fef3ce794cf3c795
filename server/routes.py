"""URL → handler: JSON in, JSON out, as Label Studio's ML-backend protocol says.

GET  /, /health   is it up, and with which model
POST /setup       can it serve this project's labeling config → the model version
POST /predict     tasks → predictions, one a task, in order
GET  /versions    the model versions it can answer with
POST /webhook     answered at once; this server does not train
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import BadRequest, RequestTooLarge
from server.predictor import Predictor

log = logging.getLogger(__name__)

LARGE_BODY = 1_000_000
"""Bytes from which a body is parsed in a thread."""


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def routes(predictor: Predictor, *, describe: Callable[[], Mapping[str, Any]], max_tasks: int, max_body_bytes: int) -> list[Route]:
    """`describe` gives what /health says of the engine."""

    async def health(request: Request) -> Json:
        return Json({"status": "UP", "model_version": predictor.version, **describe()})

    async def setup(request: Request) -> Json:
        body = await _object(request, max_body_bytes)
        version = predictor.set_up(_label_config(body, "schema"), body.get("project"), body.get("extra_params"))
        return Json({"model_version": version})

    async def predict(request: Request) -> Json:
        body = await _object(request, max_body_bytes)
        tasks = body.get("tasks")
        if not isinstance(tasks, list):
            raise BadRequest(f"tasks: expected a list of tasks, found {_kind(tasks)}.")
        if len(tasks) > max_tasks:
            raise RequestTooLarge(f"tasks: {len(tasks)} in one request; the limit is {max_tasks} (PRELABEL_MAX_TASKS). Send fewer at once.")
        answer = await predictor.predict(tasks, _label_config(body, "label_config"), body.get("project"))
        timing = ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in answer.seconds.items())
        return Json({"results": answer.predictions}, headers={"Server-Timing": timing})

    async def versions(request: Request) -> Json:
        return Json({"versions": [predictor.version]})

    async def webhook(request: Request) -> Json:
        body = await _object(request, max_body_bytes)
        if body.get("action") == "START_TRAINING":
            return Json({"status": "Training is not available on this server; train with `prelabel train` and serve the new bundle.", "job": "none"})
        return Json({"status": "ignored"})

    return [
        Route("/", health, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/setup", setup, methods=["POST"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/versions", versions, methods=["GET"]),
        Route("/webhook", webhook, methods=["POST"]),
    ]


async def _object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest, RequestTooLarge."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise RequestTooLarge(f"The body is larger than {max_bytes} bytes (PRELABEL_MAX_BODY_BYTES). Send fewer tasks at once.")
    except ClientDisconnect:
        raise BadRequest("The client left before its body was complete.") from None
    value = await asyncio.to_thread(_parse, body) if len(body) > LARGE_BODY else _parse(body)
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, found {_kind(value)}.")
    return value


def _parse(body: bytearray) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    try:
        # orjson refuses lone surrogates and numbers past 64 bits, which Label Studio passes on; the library's parser takes them
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"The body is not JSON: {problem}.") from None


def _label_config(body: Mapping[str, Any], field: str) -> str:
    config = body.get(field)
    if not isinstance(config, str) or not config.strip():
        raise BadRequest(f"{field}: expected the labeling config as text, found {_kind(config)}.")
    return config


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
