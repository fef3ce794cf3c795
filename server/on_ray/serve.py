"""`prelabel serve --on-ray`: deploys the application and removes it when the command ends. SIGHUP redeploys
the bundles, replica by replica.
"""

import logging
import os
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
from server.launch.startup_banner import LOCAL, auth_methods
from server.launch.startup_banner import address as server_address
from server.log_setup import start_logging
from server.on_ray.application import application
from server.on_ray.cluster import connected
from server.on_ray.options import Replicas, Resources, settings_for_node
from server.on_ray.signals import Signals
from server.settings import Settings, unknown_variables

log = logging.getLogger(__name__)

APP = "prelabel"
"""The application's name in Ray Serve."""

GRACE = 5
"""Seconds that Ray's timeout for a request exceeds `request_timeout`, so that the replica's own error arrives
first.
"""

BALANCED = {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0", "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING": "0"}
"""Environment of Ray Serve's controller. By default a proxy prefers replicas on its own node until these have
`max_ongoing_requests` in flight, and other nodes stay idle.
"""

ERROR = re.compile(r"server\.errors\.\w+(?:\x1b\[[0-9;]*m)?: (.+)")
"""The message of a PrelabelError at the end of a traceback in Ray's status."""


def serve_on_ray(
    settings: Settings, replicas: Replicas, resources: Resources, address: str, show: Callable[[str], None]
) -> None:
    """Serve on the cluster at `address` until a signal ends the command. `show` prints a line.

    Raises BadSetting, BadBundle, also those that keep a replica from starting.
    """
    check(settings)
    start_logging(settings.log_level, settings.log_format)
    if unknown := unknown_variables(os.environ):
        log.warning("%s", unknown)
    settings = settings_for_node(settings, resources)
    versions = versions_of(settings)
    with connected(address), Signals() as signals:
        start_proxies(settings)
        was_deployed = APP in serve.status().applications
        try:
            with signals.exit_on_stop():
                for line in missing_resources(replicas, resources):
                    show(line)
                deploy(settings, versions, replicas, resources)
        except PrelabelError:
            if not was_deployed:  # earlier replicas continue to serve, as after a failed redeployment
                stop()
            raise
        except SystemExit:
            stop()
            raise
        for line in banner_lines(settings, versions, replicas, resources):
            show(line)
        try:
            while signals.wait() == signal.SIGHUP:
                with signals.exit_on_stop():
                    redeploy(settings, replicas, resources)
        finally:
            stop()


def check(settings: Settings) -> None:
    """Raises BadSetting for settings that a cluster cannot support."""
    if settings.workers > 1:
        raise BadSetting(
            f"workers (PRELABEL_WORKERS) = {settings.workers}: with --on-ray, replicas take the "
            f"place of workers; set --replicas {settings.workers} instead."
        )
    if settings.port == 0:
        raise BadSetting(
            "port (PRELABEL_PORT) = 0: with --on-ray, expected a port number, because every node "
            "opens the same port."
        )
    if settings.tls_key_password.get_secret_value():
        raise BadSetting(
            "tls_key_password (PRELABEL_TLS_KEY_PASSWORD): Ray would display it; use a key without a "
            "password, or a TLS proxy in front."
        )


def http_options(settings: Settings) -> dict[str, Any]:
    """Options of Ray's HTTP proxy."""
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
    """Start Ray Serve unless it runs. Raises BadSetting."""
    try:
        serve.start(
            proxy_location=location(settings),
            http_options=http_options(settings),
            controller_options={"runtime_env": {"env_vars": BALANCED}},
            logging_config={"enable_access_log": False},
        )
    except (RayError, TimeoutError):
        raise BadSetting(
            f"Ray's HTTP proxy did not start on {settings.host}:{settings.port}; another program may "
            "use the port, or no node has the address. Give another --port or --host."
        ) from None


def location(settings: Settings) -> Any:
    """A proxy on each node, or only on the head node if the address is loopback."""
    return ProxyLocation.HeadOnly if settings.host in LOCAL else ProxyLocation.EveryNode


def versions_of(settings: Settings) -> dict[str, str]:
    """Versions of the bundles on this machine, by name; verifies every checksum. Raises BadBundle."""
    return {name: read_bundle(path).version for name, path in settings.bundles.items()}


def deploy(settings: Settings, versions: dict[str, str], replicas: Replicas, resources: Resources) -> None:
    """Deploy, replica by replica, and wait until all are ready. Raises BadSetting."""
    try:
        serve.run(application(settings, versions, replicas, resources), name=APP, route_prefix="/")
    except (RayServeException, RuntimeError, ValueError) as error:
        raise BadSetting(f"The replicas did not start: {replica_error() or one_line(str(error))}") from None


def replica_error() -> str:
    """The PrelabelError that kept a replica from starting; empty if there is none."""
    found = serve.status().applications.get(APP)
    messages = [found.message, *(each.message for each in found.deployments.values())] if found else []
    errors = [error for message in messages for error in ERROR.findall(message)]
    return errors[-1] if errors else ""


def redeploy(settings: Settings, replicas: Replicas, resources: Resources) -> None:
    """Deploy the current bundles. If they cannot be served, the earlier replicas continue."""
    try:
        versions = versions_of(settings)
        deploy(settings, versions, replicas, resources)
        log.info("%s is deployed", ", ".join(versions.values()))
    except PrelabelError as error:
        log.error("the new bundle was rejected: %s", error)


def stop() -> None:
    """Drain and remove the application; stop Ray Serve if no other application is left."""
    serve.delete(APP)
    if not serve.status().applications:
        serve.shutdown()


def missing_resources(replicas: Replicas, resources: Resources) -> list[str]:
    """A message if the cluster is too small: Ray waits for more nodes before it starts the replicas."""
    found = ray.cluster_resources()
    available, needed = (
        (int(found.get("CPU", 0)), int(found.get("GPU", 0))),
        (replicas.minimum * resources.cpus, replicas.minimum * resources.gpus),
    )
    if available[0] >= needed[0] and available[1] >= needed[1]:
        return []
    return [
        (
            f"the replicas need {needed[0]} CPUs and {needed[1]} GPUs, but the cluster has {available[0]} "
            f"and {available[1]}: waiting for more nodes"
        )
    ]


def banner_lines(
    settings: Settings, versions: dict[str, str], replicas: Replicas, resources: Resources
) -> list[str]:
    """The startup banner: versions with their URLs, replicas, and authentication."""
    url = server_address(settings)
    count = (
        f"{replicas.minimum}"
        if replicas.minimum == replicas.maximum
        else f"{replicas.minimum} to {replicas.maximum}"
    )
    return [
        *(
            f"{settings.scoring.version(version)}: connect Label Studio to {url}{f'/{name}' if index else ''}"
            for index, (name, version) in enumerate(versions.items())
        ),
        (
            f"replicas: {count} on {len(ray.nodes())} nodes, each with {resources.cpus} CPUs and "
            f"{resources.gpus} GPUs"
        ),
        f"auth: {auth_methods(settings)}",
    ]
