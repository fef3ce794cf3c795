"""Exceptions to error responses, noted in the access log and in the activity of the project."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import HTTPExceptionHandler

from server.errors import PrelabelError
from server.observability.project_activity import ProjectActivity
from server.transport.middleware import context_of
from server.transport.responses import Json, error_response


def error_handlers(activity: ProjectActivity) -> dict[type[Exception], HTTPExceptionHandler]:
    """Starlette's exception handlers, by class."""

    async def on_prelabel_error(request: Request, error: Exception) -> Json:
        assert isinstance(error, PrelabelError)  # noqa: S101 - registered for it; tells mypy
        context = context_of(request)
        context.error = error
        model = getattr(request.state, "model", None)
        if model is not None:
            activity.on_error(model, context.project, error)
        return error_response(
            request.url.path, error.status, type(error).__name__, str(error), context.id, error.headers
        )

    async def on_http_exception(request: Request, error: Exception) -> Json:
        """Starlette's own: no such path, or another method."""
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it; tells mypy
        allowed = (error.headers or {}).get("Allow")
        problem = "no such path; GET /openapi.json lists all"
        if allowed:  # the order of a set
            problem = f"this path takes {', '.join(sorted(allowed.split(', ')))}"
        detail = f"{request.method} {request.url.path}: {problem}."
        kind = HTTPStatus(error.status_code).phrase.replace(" ", "")
        request_id = context_of(request).id
        return error_response(request.url.path, error.status_code, kind, detail, request_id, error.headers)

    return {PrelabelError: on_prelabel_error, HTTPException: on_http_exception}
