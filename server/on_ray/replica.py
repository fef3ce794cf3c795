"""A replica: the complete server on a node of the cluster, behind Ray's HTTP proxy. Does not import Ray.

client ─▶ Ray's HTTP proxy ─▶ replica: middleware ─▶ routes ─▶ batcher ─▶ engine
"""

import socket
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.app import build_app
from server.errors import BadBundle, EngineFailed
from server.log_setup import start_logging
from server.settings import Settings


class Replica:
    """`versions`: the deployed version of each bundle. A replica does not start with any other version."""

    def __init__(self, settings: Settings, versions: Mapping[str, str], sighup_to: str) -> None:
        start_logging(settings.log_level, settings.log_format)
        # Ray replaces a replica whose health check fails
        self.server = build_app(settings, sighup_to=sighup_to, on_crash=lambda: None)
        check_versions(self.server, versions)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return drop_duplicate_request_id(self.server)

    def check_health(self) -> None:
        """Called by Ray. Raises EngineFailed when `/ready` would return 503."""
        unhealthy_reason = self.server.state.health.first_unhealthy_reason()
        if unhealthy_reason is not None:
            raise EngineFailed(unhealthy_reason)


def check_versions(server: Starlette, versions: Mapping[str, str]) -> None:
    """Raises BadBundle if a bundle on this node has another version than `versions` says."""
    for name, slot in server.state.registry.slots.items():
        found = slot.current.bundle.version
        if found != versions[name]:
            raise BadBundle(
                f"{slot.path} on {socket.gethostname()}: expected {versions[name]}, found {found}; "
                "copy the same bundle to that folder on each node."
            )


def drop_duplicate_request_id(app: ASGIApp) -> ASGIApp:
    """Ray's proxy adds a request ID to every request and response. The server returns the same ID, so drop
    the server's header.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        given = {value for name, value in scope.get("headers", ()) if name == b"x-request-id"}

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, value)
                    for name, value in message["headers"]
                    if name != b"x-request-id" or value not in given
                ]
            await send(message)

        await app(scope, receive, send_once)

    return wrapped
