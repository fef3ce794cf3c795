"""`prelabel serve --on-ray`: deploys the application, keeps it until a signal ends it, and on SIGHUP deploys
the bundles anew, replica by replica.
"""

import logging
import re
import signal
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import ProxyLocation
from ray.serve.exceptions import RayServeException

from server.bundle import read_bundle
from server.errors import BadSetting, PrelabelError, one_line
from server.launch.launcher import KEEP_ALIVE
from server.launch.startup_banner import LOCAL, address, auth_methods
from server.log_setup import start_logging
from server.on_ray.application import application
from server.on_ray.cluster import connected
from server.on_ray.options import Replicas, Share, within
from server.on_ray.signals import Signals
from server.settings import Settings

log = logging.getLogger(__name__)

APP = "prelabel"
"""The application's name in Ray Serve."""

GRACE = 5
"""Seconds beyond `request_timeout` after which Ray gives a request up that no replica has taken."""

EVENLY = {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0", "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING": "0"}
"""Else a proxy gives everything to the replicas on its own node until those have `max_ongoing_requests` in
work, and other nodes would stay idle.
"""

REFUSAL = re.compile(r"server\.errors\.\w+(?:\x1b\[[0-9;]*m)?: (.+)")
"""A refusal of ours at the end of a traceback in Ray's words."""


def serve_on_ray(
    settings: Settings, replicas: Replicas, share: Share, at: str, tell: Callable[[str], None]
) -> None:
    """Serve on the cluster at the address `at` until a signal ends it.

    Raises BadSetting, BadBundle, also for what a replica refused to start with.
    """
    check(settings)
    start_logging(settings.log_level, settings.log_format)
    settings = within(settings, share)
    versions = versions_of(settings)
    with connected(at), Signals() as signals:
        start_proxies(settings)
        had = APP in serve.status().applications
        try:
            with signals.leaving():
                for line in lacking(replicas, share):
                    tell(line)
                deploy(settings, versions, replicas, share)
        except PrelabelError:
            if not had:  # replicas that were there go on, as after a roll-out that was refused
                stop()
            raise
        except SystemExit:
            stop()
            raise
        for line in told(settings, versions, replicas, share):
            tell(line)
        try:
            while signals.wait() == signal.SIGHUP:
                with signals.leaving():
                    roll_out(settings, replicas, share)
        finally:
            stop()


def check(settings: Settings) -> None:
    """What the settings ask for and a cluster cannot do. Raises BadSetting."""
    if settings.workers > 1:
        raise BadSetting(
            f"workers (PRELABEL_WORKERS) = {settings.workers}: with --on-ray the processes are "
            f"replicas; give --replicas {settings.workers} instead."
        )
    if settings.port == 0:
        raise BadSetting(
            "port (PRELABEL_PORT) = 0: with --on-ray expected the number of a port, for every node "
            "opens the same."
        )
    if settings.tls_key_password.get_secret_value():
        raise BadSetting(
            "tls_key_password (PRELABEL_TLS_KEY_PASSWORD): Ray would show it; use a key without a "
            "password, or a proxy with TLS in front."
        )


def http_options(settings: Settings) -> dict[str, Any]:
    """Of Ray's HTTP proxy."""
    tls = (
        {"ssl_certfile": str(settings.tls_cert.resolve()), "ssl_keyfile": str(settings.tls_key.resolve())}
        if settings.tls_cert and settings.tls_key
        else {}
    )
    return {
        "host": settings.host,
        "port": settings.port,
        "request_timeout_s": settings.request_timeout + GRACE,
        "keep_alive_timeout_s": KEEP_ALIVE,
        **tls,
    }


def start_proxies(settings: Settings) -> None:
    """Starts Ray Serve where it does not run. Raises BadSetting."""
    try:
        serve.start(
            proxy_location=location(settings),
            http_options=http_options(settings),
            controller_options={"runtime_env": {"env_vars": EVENLY}},
            logging_config={"enable_access_log": False},
        )
    except (RayError, TimeoutError):
        raise BadSetting(
            f"Ray's HTTP proxy did not start on {settings.host}:{settings.port}; another program may "
            "have the port, or the address is no node's."
        ) from None


def location(settings: Settings) -> Any:
    """A proxy on each node, but for an address that only the node itself can reach: then on the head node
    alone.
    """
    return ProxyLocation.HeadOnly if settings.host in LOCAL else ProxyLocation.EveryNode


def versions_of(settings: Settings) -> dict[str, str]:
    """Of the bundles as they are on this machine, by name; each checksum is computed. Raises BadBundle."""
    return {name: read_bundle(path).version for name, path in settings.bundles.items()}


def deploy(settings: Settings, versions: dict[str, str], replicas: Replicas, share: Share) -> None:
    """Returns when all replicas answer. What ran before is replaced, replica by replica. Raises BadSetting."""
    try:
        serve.run(application(settings, versions, replicas, share), name=APP, route_prefix="/")
    except (RayServeException, RuntimeError, ValueError) as error:
        raise BadSetting(f"The replicas did not start: {why_not() or one_line(str(error))}") from None


def why_not() -> str:
    """What a replica refused to start with, in its own words; "" where it was nothing of ours."""
    found = serve.status().applications.get(APP)
    messages = [found.message, *(each.message for each in found.deployments.values())] if found else []
    refusals = [refusal for message in messages for refusal in REFUSAL.findall(message)]
    return refusals[-1] if refusals else ""


def roll_out(settings: Settings, replicas: Replicas, share: Share) -> None:
    """The bundles as they are now. Where they cannot be served the replicas that there are go on."""
    try:
        versions = versions_of(settings)
        deploy(settings, versions, replicas, share)
        log.info("%s serves now", ", ".join(versions.values()))
    except PrelabelError as error:
        log.error("the new bundle was refused: %s", error)


def stop() -> None:
    """What is begun is answered; Serve itself ends when no other application is left."""
    serve.delete(APP)
    if not serve.status().applications:
        serve.shutdown()


def lacking(replicas: Replicas, share: Share) -> list[str]:
    """What a person should know who waits: Ray starts no replica that it has no room for, but nodes may still
    come.
    """
    found = ray.cluster_resources()
    has, asked = (
        (int(found.get("CPU", 0)), int(found.get("GPU", 0))),
        (replicas.least * share.cpus, replicas.least * share.gpus),
    )
    if has[0] >= asked[0] and has[1] >= asked[1]:
        return []
    return [
        f"the replicas ask for {asked[0]} CPUs and {asked[1]} GPUs, the cluster has {has[0]} and "
        f"{has[1]}: waiting for more nodes"
    ]


def told(settings: Settings, versions: dict[str, str], replicas: Replicas, share: Share) -> list[str]:
    """For a person: what answers, where, and on how many replicas."""
    url = address(settings)
    count = f"{replicas.least}" if replicas.least == replicas.most else f"{replicas.least} to {replicas.most}"
    return [
        *(
            f"{settings.scoring.version(version)}: give Label Studio the URL "
            f"{url}{f'/{name}' if place else ''}"
            for place, (name, version) in enumerate(versions.items())
        ),
        f"replicas: {count} on {len(ray.nodes())} nodes, each with {share.cpus} CPUs and {share.gpus} GPUs",
        f"auth: {auth_methods(settings)}",
    ]
