"""All routes: the default model at /, every model at its name, /v2, probes, admin, /openapi.json."""

from collections.abc import Callable, Mapping

from starlette.routing import BaseRoute, Mount

from server.api.admin import admin_routes
from server.api.guards import RouteGuard
from server.api.ml_backend import MlBackend
from server.api.open_inference import InferenceServer
from server.api.openapi import About, openapi_route
from server.api.probes import live_route, metrics_route, ready_route
from server.api.server_status import ServerStatus
from server.learning.receiver import LearningReceiver
from server.observability.project_activity import ProjectActivity
from server.prediction.predictor import Predictor
from server.settings import Settings, is_free
from server.transport.auth import Credentials


def build_routes(
    settings: Settings,
    server: ServerStatus,
    predictors: Mapping[str, Predictor],
    activity: ProjectActivity,
    metrics_page: Callable[[], bytes],
    sighup_to: str,
    learning: LearningReceiver | None,
) -> list[BaseRoute]:
    """`predictors` by the name of their model, the default first; for `sighup_to` see `admin_routes`. Without
    `learning`, nothing is learned.
    """
    credentials = Credentials(
        settings.basic_auth_user, settings.basic_auth_pass.get_secret_value(), settings.api_tokens
    )
    guard = RouteGuard.from_settings(settings, credentials)
    backends = {
        name: MlBackend(name, predictor, activity, guard, server, learning).routes()
        for name, predictor in predictors.items()
    }
    routes: list[BaseRoute] = [
        *next(iter(backends.values())),
        live_route(server.health, guard),
        ready_route(server.health, guard),
        metrics_route(metrics_page, guard),
        *InferenceServer(predictors, activity, guard, server).routes(),
        *admin_routes(server.registry, guard, sighup_to),
        *(Mount(f"/{name}", routes=own) for name, own in backends.items() if is_free(name)),
    ]
    prefixes = ["", *([settings.path_prefix] if settings.path_prefix else [])]
    routes.append(openapi_route(routes, guard, About(prefixes, credentials.schemes, list(predictors))))
    return [Mount(settings.path_prefix, routes=routes), *routes] if settings.path_prefix else routes
