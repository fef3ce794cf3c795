"""What the server tells of itself when it starts: what answers, where, on what, for whom, and within which
limits. Nothing secret.
"""

import socket
from typing import Any

from server.models.registry import Registry
from server.settings import Settings

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - what is asked for, not what is bound


def startup_banner(settings: Settings, registry: Registry) -> dict[str, Any]:
    """As fields of a log line."""
    device = registry.current(registry.names[0]).members[0].model.engine.device
    return {
        "models": [
            _model(settings, registry, name, first=not place) for place, name in enumerate(registry.names)
        ],
        "threads": settings.threads(device),
        "workers": settings.workers,
        "limits": {
            "tasks": settings.max_tasks,
            "body_bytes": settings.max_body_bytes,
            "requests": settings.max_requests,
            "waiting_rows": settings.max_waiting_rows,
            "seconds": settings.request_timeout,
        },
        "asks_for": asks_for(settings),
    }


def as_lines(told: dict[str, Any]) -> list[str]:
    """The same for a person, who is told first what to do with it."""
    limits = told["limits"]
    body = f"{limits['body_bytes'] / 2**20:,.0f} MiB"
    return [
        *(
            f"{model['version']} ({model['engine']} on {model['device']}): give Label Studio the URL "
            f"{model['url']}"
            for model in told["models"]
        ),
        f"workers: {told['workers']}, each with {told['threads']} model calls at the same time",
        (
            f"limits: {limits['tasks']:,} tasks and {body} a request, {limits['seconds']:g} s for an answer, "
            f"{limits['requests']:,} requests and {limits['waiting_rows']:,} texts at the same time"
        ),
        f"asks for: {told['asks_for']}",
    ]


def address(settings: Settings) -> str:
    """The server's URL as another machine may know it."""
    host = socket.gethostname() if settings.host in EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    port = settings.port or "PORT"
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}{settings.path_prefix}"


def asks_for(settings: Settings) -> str:
    """What a caller must have."""
    ways = [
        *(["a user and a password"] if settings.basic_auth_user else []),
        *(["a token"] if settings.api_tokens else []),
    ]
    if ways:
        return " or ".join(ways)
    return (
        "nothing"
        if settings.host in LOCAL
        else (
            "nothing: whoever reaches the port may ask; PRELABEL_BASIC_AUTH_USER and "
            "PRELABEL_BASIC_AUTH_PASS change that"
        )
    )


def _model(settings: Settings, registry: Registry, name: str, *, first: bool) -> dict[str, str]:
    ensemble = registry.current(name)
    engine = ensemble.members[0].model.engine
    url = address(settings) + ("" if first else f"/{name}")
    return {
        "name": name,
        "version": settings.scoring.version(ensemble.version),
        "engine": engine.name,
        "device": engine.device,
        "url": url,
    }
