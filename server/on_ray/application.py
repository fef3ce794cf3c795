"""The Ray Serve application: how many replicas, with which resources and limits.

Settings are passed to the replicas inside the pickled arguments of the deployment. Ray would display them in
an environment, a `user_config` or an option. The bundle is not passed: each node has its folder, and a
replica serves only the version that was deployed.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

from ray import serve

from server.on_ray.options import Replicas, Resources
from server.on_ray.replica import Replica
from server.settings import Settings

HEALTH_PERIOD = 10.0
"""Seconds between two health checks; after three failures in a row Ray replaces the replica. The server
rebuilds a failing engine at the same interval.
"""

TARGET_SHARE = 8
"""With a range of replicas, Ray adds one when the average replica has 1/8 of `max_requests` in flight: 16 of
128.
"""


def application(
    settings: Settings, versions: Mapping[str, str], replicas: Replicas, resources: Resources
) -> Any:
    """The bound deployment for `serve.run`."""
    scale: dict[str, Any] = {"num_replicas": replicas.minimum}
    if replicas.maximum > replicas.minimum:
        target = max(1, settings.max_requests // TARGET_SHARE)
        scale = {
            "autoscaling_config": {
                "min_replicas": replicas.minimum,
                "max_replicas": replicas.maximum,
                "target_ongoing_requests": target,
            }
        }
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="replica",
        # twice what a replica admits: the excess reaches the replica and gets 429 there, instead of waiting
        # in Ray's own queue
        max_ongoing_requests=2 * settings.max_requests,
        graceful_shutdown_timeout_s=settings.drain_timeout,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=HEALTH_PERIOD,
        ray_actor_options={"num_cpus": resources.cpus, "num_gpus": resources.gpus},
        logging_config={"enable_access_log": False},
        **scale,
    )
    return deployment.bind(
        settings,
        dict(versions),
        f"`prelabel serve --on-ray`, process {os.getpid()} on {socket.gethostname()}",
    )
