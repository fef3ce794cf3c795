"""The server as an application of Ray Serve.

Settings travel to the replicas by value, inside the pickled arguments of the deployment: not in an
environment, a `user_config` or an option, all of which Ray shows. The bundle does not travel: its folder lies
on each node, and a replica answers only with the version that was deployed.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

from ray import serve

from server.on_ray.options import Replicas, Share
from server.on_ray.replica import Replica
from server.settings import Settings

HEALTH_PERIOD = 10.0
"""Seconds between two health checks; after three failures in a row Ray puts another replica in place. An
engine that fails is tried anew as often.
"""

TARGET_SHARE = 8
"""With a range of replicas Ray adds one where each has on average such a share of `max_requests` in work: 16
of 128.
"""


def application(settings: Settings, versions: Mapping[str, str], replicas: Replicas, share: Share) -> Any:
    """What Serve runs."""
    scale: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.most > replicas.least:
        target = max(1, settings.max_requests // TARGET_SHARE)
        scale = {
            "autoscaling_config": {
                "min_replicas": replicas.least,
                "max_replicas": replicas.most,
                "target_ongoing_requests": target,
            }
        }
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="replica",
        # twice what a replica admits: what is beyond reaches it and is answered 429; Ray's own queue is for
        # the moments without any replica
        max_ongoing_requests=2 * settings.max_requests,
        graceful_shutdown_timeout_s=settings.drain_timeout,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=HEALTH_PERIOD,
        ray_actor_options={"num_cpus": share.cpus, "num_gpus": share.gpus},
        logging_config={"enable_access_log": False},
        **scale,
    )
    return deployment.bind(
        settings,
        dict(versions),
        f"`prelabel serve --on-ray`, process {os.getpid()} on {socket.gethostname()}",
    )
