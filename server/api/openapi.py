"""/openapi.json: the routes of this server as OpenAPI 3.1, from the operations that they are made of and the
types that are really read and answered.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from server.api.endpoints import Operation, OperationRoute
from server.api.guards import RouteGuard
from server.api.open_inference_codec import HEADER_LENGTH
from server.errors import AdminOnly, EngineFailed, PrelabelError, Unauthorized
from server.transport.responses import ErrorBody, OpenInferenceErrorBody, is_open_inference

OPENAPI = Operation("GET", "/openapi.json", "health", "This description", dict[str, Any])

SCHEMES = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "PRELABEL_BASIC_AUTH_USER and PRELABEL_BASIC_AUTH_PASS",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of PRELABEL_API_TOKEN"},
    "administrator": {"type": "http", "scheme": "bearer", "description": "PRELABEL_ADMIN_TOKEN"},
}

HEADER: Mapping[str, Any] = {
    "name": HEADER_LENGTH,
    "in": "header",
    "required": False,
    "description": "How many bytes of the body are JSON, where tensors lie behind it.",
    "schema": {"type": "integer", "minimum": 0},
}

Schemas = dict[int, dict[str, Any]]
"""The schema of a type, by the type's identity: types need not be hashable."""


@dataclass(frozen=True)
class About:
    """What the routes do not tell: path prefixes, which of SCHEMES callers are asked for, and the names of
    the models.
    """

    prefixes: Sequence[str]
    schemes: Sequence[str]
    models: Sequence[str]


def openapi_route(routes: Sequence[BaseRoute], guard: RouteGuard, about: About) -> BaseRoute:
    """The route that describes `routes` and itself."""

    async def openapi(request: Request) -> Response:
        return Response(written, media_type="application/json")

    route = guard.route(OPENAPI, openapi)
    written = msgspec.json.encode(document([*routes, route], about))
    return route


def document(routes: Sequence[BaseRoute], about: About) -> dict[str, Any]:
    """The description of `routes`."""
    operations = dict(operations_of(routes))
    types = {id(kind): kind for operation in operations.values() for kind in _types(operation)}
    schemas, components = msgspec.json.schema_components(
        types.values(), ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, by_type, about)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Prelabel",
            "version": version_of("prelabel"),
            "description": (
                "Text classification for Label Studio and for clients of the Open Inference Protocol."
            ),
        },
        "servers": [{"url": prefix or "/"} for prefix in about.prefixes],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SCHEMES},
    }


def operations_of(
    routes: Sequence[BaseRoute], below: str = ""
) -> Iterator[tuple[tuple[str, str], Operation]]:
    """Each operation by its whole path and its method."""
    for route in routes:
        if isinstance(route, Mount):
            yield from operations_of(route.routes, below + route.path)
        elif isinstance(route, OperationRoute):
            yield (below + route.path, route.operation.method), route.operation


def _types(operation: Operation) -> Iterator[Any]:
    yield from (operation.answers, *operation.otherwise.values(), ErrorBody, OpenInferenceErrorBody)
    if operation.takes is not None:
        yield operation.takes


def _operation(path: str, operation: Operation, schemas: Schemas, about: About) -> dict[str, Any]:
    asked = [{scheme: list[str]()} for scheme in about.schemes]
    security = {"admin": [{"administrator": list[str]()}], "health": [{}, *asked], "caller": asked or [{}]}[
        operation.access
    ]
    told: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", path).strip("_") or "status",
        "summary": operation.summary,
        "security": security,
        "parameters": [
            *map(partial(_parameter, about), re.findall(r"{(\w+)}", path)),
            *([HEADER] if operation.binary else []),
        ],
        "responses": _responses(path, operation, schemas),
    }
    if operation.takes is not None:
        content = _content(operation, schemas[id(operation.takes)])
        content["application/json"]["example"] = operation.example
        told["requestBody"] = {"required": not operation.optional, "content": content}
    return told


def _parameter(about: About, name: str) -> dict[str, Any]:
    schema = {"type": "string", **({"enum": list(about.models)} if name == "name" else {})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(path: str, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """By status. Of several errors with one status, the last one gives the description."""
    responses = {
        "200": {
            "description": operation.summary,
            "content": _content(operation, schemas[id(operation.answers)], operation.media),
        }
    }
    for status, kind in operation.otherwise.items():
        responses[str(status)] = {
            "description": f"{operation.summary}: no",
            "content": {"application/json": {"schema": schemas[id(kind)]}},
        }
    refusal = schemas[id(OpenInferenceErrorBody if is_open_inference(path) else ErrorBody)]
    errors: tuple[type[PrelabelError], ...] = (
        AdminOnly if operation.access == "admin" else Unauthorized,
        *operation.refuses,
        EngineFailed,
    )
    for error in errors:
        responses[str(error.status)] = {
            "description": error.meaning,
            "content": {"application/json": {"schema": refusal}},
        }
    return dict(sorted(responses.items()))


def _content(
    operation: Operation, schema: Mapping[str, Any], media: str = "application/json"
) -> dict[str, Any]:
    return {media: {"schema": schema}, **({"application/octet-stream": {}} if operation.binary else {})}
