"""/openapi.json: OpenAPI 3.1, generated from the endpoints and the types that requests are parsed with."""

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

from server.api.endpoints import Endpoint, EndpointRoute
from server.api.guards import RouteGuard
from server.api.open_inference_codec import HEADER_LENGTH
from server.errors import AdminOnly, EngineFailed, PrelabelError, Unauthorized
from server.transport.responses import ErrorBody, OpenInferenceErrorBody, is_open_inference

OPENAPI = Endpoint("GET", "/openapi.json", "health", "This description", dict[str, Any])

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
    "description": "Bytes of the body that are JSON, if binary tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}

Schemas = dict[int, dict[str, Any]]
"""Schemas by `id(type)`: types need not be hashable."""


@dataclass(frozen=True)
class About:
    """What is not in the routes: path prefixes, the accepted SCHEMES, and the names of the models."""

    prefixes: Sequence[str]
    schemes: Sequence[str]
    models: Sequence[str]


def openapi_route(routes: Sequence[BaseRoute], guard: RouteGuard, about: About) -> BaseRoute:
    """A route whose document describes `routes` and itself."""

    async def openapi(request: Request) -> Response:
        return Response(written, media_type="application/json")

    route = guard.route(OPENAPI, openapi)
    written = msgspec.json.encode(document([*routes, route], about))
    return route


def document(routes: Sequence[BaseRoute], about: About) -> dict[str, Any]:
    """The OpenAPI document of `routes`."""
    endpoints = dict(endpoints_of(routes))
    types = {id(kind): kind for endpoint in endpoints.values() for kind in _types(endpoint)}
    schemas, components = msgspec.json.schema_components(
        types.values(), ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), endpoint in endpoints.items():
        paths.setdefault(path, {})[method.lower()] = _describe(path, endpoint, by_type, about)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Prelabel",
            "version": version_of("prelabel"),
            "description": "Text classification for Label Studio and Open Inference Protocol clients.",
        },
        "servers": [{"url": prefix or "/"} for prefix in about.prefixes],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SCHEMES},
    }


def endpoints_of(routes: Sequence[BaseRoute], below: str = "") -> Iterator[tuple[tuple[str, str], Endpoint]]:
    """Pairs of (full path, method) and the endpoint."""
    for route in routes:
        if isinstance(route, Mount):
            yield from endpoints_of(route.routes, below + route.path)
        elif isinstance(route, EndpointRoute):
            yield (below + route.path, route.spec.method), route.spec


def _types(endpoint: Endpoint) -> Iterator[Any]:
    yield from (endpoint.response_type, *endpoint.other_responses.values(), ErrorBody, OpenInferenceErrorBody)
    if endpoint.request_type is not None:
        yield endpoint.request_type


def _describe(path: str, endpoint: Endpoint, schemas: Schemas, about: About) -> dict[str, Any]:
    callers = [{scheme: list[str]()} for scheme in about.schemes]
    security = {
        "admin": [{"administrator": list[str]()}],
        "health": [{}, *callers],
        "caller": callers or [{}],
    }[endpoint.access]
    description: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", path).strip("_") or "status",
        "summary": endpoint.summary,
        "security": security,
        "parameters": [
            *map(partial(_parameter, about), re.findall(r"{(\w+)}", path)),
            *([HEADER] if endpoint.binary_tensors else []),
        ],
        "responses": _responses(path, endpoint, schemas),
    }
    if endpoint.request_type is not None:
        content = _content(endpoint, schemas[id(endpoint.request_type)])
        content["application/json"]["example"] = endpoint.example
        description["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    return description


def _parameter(about: About, name: str) -> dict[str, Any]:
    schema = {"type": "string", **({"enum": list(about.models)} if name == "name" else {})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(path: str, endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    """By status. Of several errors with one status, the last one gives the description."""
    responses = {
        "200": {
            "description": endpoint.summary,
            "content": _content(endpoint, schemas[id(endpoint.response_type)], endpoint.media_type),
        }
    }
    for status, kind in endpoint.other_responses.items():
        responses[str(status)] = {
            "description": f"{endpoint.summary}: no",
            "content": {"application/json": {"schema": schemas[id(kind)]}},
        }
    error_schema = schemas[id(OpenInferenceErrorBody if is_open_inference(path) else ErrorBody)]
    errors: tuple[type[PrelabelError], ...] = (
        AdminOnly if endpoint.access == "admin" else Unauthorized,
        *endpoint.errors,
        EngineFailed,
    )
    for error in errors:
        responses[str(error.status)] = {
            "description": error.meaning,
            "content": {"application/json": {"schema": error_schema}},
        }
    return dict(sorted(responses.items()))


def _content(
    endpoint: Endpoint, schema: Mapping[str, Any], media: str = "application/json"
) -> dict[str, Any]:
    return {
        media: {"schema": schema},
        **({"application/octet-stream": {}} if endpoint.binary_tensors else {}),
    }
