"""What a client measures, and what it finds: a plan and its measurement, both as JSON."""

import json
from dataclasses import asdict, dataclass

CLIENTS = 16

MIN_REQUESTS = 3
"""Minimum number of measured requests, however long they take."""

WARM_UP = 5
"""Single requests before the measurement."""


@dataclass
class Plan:
    """`bulk` are bodies of large requests with `tasks` tasks each, `single` of requests with one task. Each
    of the three measurements takes `seconds`, and at least its number of requests: `least_bulk`,
    `least_single`, and `least_of_client` from each client. Without single requests only the first measurement
    takes place.
    """

    port: int
    path: str
    bulk: list[str]
    single: list[str]
    tasks: int
    seconds: float
    least_bulk: int = MIN_REQUESTS
    least_single: int = MIN_REQUESTS
    least_of_client: int = MIN_REQUESTS

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@dataclass
class Measurement:
    """Seconds of each single request, from one client and from 16; `answers` are the responses to the large
    requests.
    """

    bulk_tasks_per_s: float
    single_seconds: list[float]
    clients16_requests_per_s: float
    answers: list[str]
    clients16_seconds: list[float]

    def to_json(self) -> str:
        return json.dumps(asdict(self))
