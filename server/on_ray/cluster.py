"""Connects to a running Ray cluster, or starts a local one for the duration of the command."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from server.errors import BadSetting
from server.on_ray.options import LOCAL

OBJECT_STORE = 2**29
"""Bytes of shared memory for a local cluster. Request bodies pass through it; nothing is stored there."""

CONNECT_TIMEOUT = 5.0
"""Seconds."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Raises BadSetting if no cluster answers at `address`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_answers(address)
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "prelabel"}
    try:
        if address == LOCAL:
            # only on loopback and without the dashboard's web server, so other hosts cannot reach it
            ray.init(
                address=LOCAL,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                _node_ip_address="127.0.0.1",
                **common,
            )
        else:
            ray.init(address=address, **common)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Fail early: Ray itself would retry for minutes. Raises BadSetting."""
    host, colon, port = address.rpartition(":")
    if colon:
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
        except (OSError, ValueError, OverflowError) as error:
            raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> BadSetting:
    return BadSetting(
        f"--ray-address = {address!r}: no Ray cluster answers there ({_first_line(error)}); start one "
        "with `ray start --head`."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
