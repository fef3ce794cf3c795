"""One replica: the whole server, on one node of the cluster, behind Ray's HTTP proxy. Needs no Ray itself.

client ─▶ Ray's HTTP proxy ─▶ a replica: envelope ─▶ routes ─▶ batcher ─▶ engine
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
    """`versions` are those of the bundles, by name. A replica that finds others on its node refuses to start."""

    def __init__(self, settings: Settings, versions: Mapping[str, str], sighup_to: str) -> None:
        start_logging(settings.log_level, settings.log_format)
        # Ray replaces a replica whose health check fails
        self.server = build_app(settings, sighup_to=sighup_to, on_crash=lambda: None)
        check_versions(self.server, versions)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return without_a_second_id(self.server)

    def check_health(self) -> None:
        """Raises EngineFailed where `/ready` would be 503."""
        unhealthy_reason = self.server.state.health.any_unhealthy_reason()
        if unhealthy_reason is not None:
            raise EngineFailed(unhealthy_reason)


def check_versions(server: Starlette, versions: Mapping[str, str]) -> None:
    """Raises BadBundle."""
    for name, slot in server.state.registry.slots.items():
        found = slot.current.bundle.version
        if found != versions[name]:
            raise BadBundle(
                f"{slot.path} on {socket.gethostname()}: expected {versions[name]}, found {found}; each "
                "node needs the same bundle in that folder."
            )


def without_a_second_id(app: ASGIApp) -> ASGIApp:
    """Ray's proxy gives each request an id where it has none, and writes it into the answer: ours is the
    same, and would be there twice.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        given = {value for name, value in scope.get("headers", ()) if name == b"x-request-id"}

        async def once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, value)
                    for name, value in message["headers"]
                    if name != b"x-request-id" or value not in given
                ]
            await send(message)

        await app(scope, receive, once)

    return wrapped
