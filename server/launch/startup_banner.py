"""The startup banner: served models with URL and engine, limits, and authentication. Contains no secrets."""

import socket
from typing import Any

from server.models.registry import Registry
from server.settings import Settings

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with the setting, not bound


def startup_banner(settings: Settings, registry: Registry) -> dict[str, Any]:
    """The banner as fields of a log line."""
    device = registry.current(registry.names[0]).members[0].model.engine.device
    return {
        "models": [
            _model(settings, registry, name, first=not index) for index, name in enumerate(registry.names)
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
        "auth": auth_methods(settings),
    }


def as_lines(banner: dict[str, Any]) -> list[str]:
    """The banner as text, with the URL for Label Studio first."""
    limits = banner["limits"]
    body = f"{limits['body_bytes'] / 2**20:,.0f} MiB"
    return [
        *(
            f"{model['version']} ({model['engine']} on {model['device']}): connect Label Studio to "
            f"{model['url']}"
            for model in banner["models"]
        ),
        f"workers: {banner['workers']}, engine threads per worker: {banner['threads']}",
        (
            f"limits: {limits['tasks']:,} tasks, {body} and {limits['seconds']:g} s per request; "
            f"{limits['requests']:,} requests and {limits['waiting_rows']:,} texts per model in flight"
        ),
        f"auth: {banner['auth']}",
    ]


def address(settings: Settings) -> str:
    """The server's URL, with the host name if it listens on all addresses."""
    host = socket.gethostname() if settings.host in EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{settings.port}{settings.path_prefix}"


def auth_methods(settings: Settings) -> str:
    """The accepted authentication methods, with a warning if an open server is reachable from other hosts."""
    methods = [
        *(["user and password"] if settings.basic_auth_user else []),
        *(["bearer token"] if settings.api_tokens else []),
    ]
    if methods:
        return " or ".join(methods)
    if settings.host in LOCAL:
        return "none"
    return (
        "none, so every host that reaches the port has access; set PRELABEL_BASIC_AUTH_USER and "
        "PRELABEL_BASIC_AUTH_PASS to require a password"
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
