"""Replaces Compose's name service and networks in every Python process with this folder on its path.

NAMES maps each "name:port" to a local port, as JSON: {"prelabel:9090": 40001}.
"""

import json
import os
import socket
from typing import Any

PORTS: dict[str, int] = json.loads(os.environ["NAMES"])
HOSTS = {name.split(":")[0] for name in PORTS}

_addresses, _address = socket.getaddrinfo, socket.gethostbyname


def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> Any:
    if host in HOSTS:
        host, port = "127.0.0.1", PORTS.get(f"{host}:{port}", port)
    return _addresses(host, port, *more, **named)


def gethostbyname(name: str) -> str:
    return "127.0.0.1" if name in HOSTS else _address(name)


socket.getaddrinfo, socket.gethostbyname = getaddrinfo, gethostbyname
