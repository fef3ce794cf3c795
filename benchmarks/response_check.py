"""Whether a response is the expected one. Pure rules: a response and its request in, what is wrong out."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

import msgspec

from benchmarks.http_connection import Response, request_bytes

REFUSED = (429, 503)
"""Statuses by which a full server refuses a request."""

WRONG = "a wrong answer"

TOLERANCE = 1e-5
"""Allowed difference between probabilities: some engines sum in another order in another batch."""


@dataclass(frozen=True)
class Request:
    """A request as bytes. `tasks` is the number of results that its response must hold, 0 if it asks for no
    predictions; `expected` is the response's body where it is known.
    """

    data: bytes
    tasks: int = 0
    expected: bytes | None = None

    @classmethod
    def predict(cls, address: SplitResult, body: bytes, expected: bytes | None = None) -> "Request":
        tasks = len(msgspec.json.decode(body)["tasks"])
        return cls(request_bytes(address, "POST", body), tasks, expected)


def failure_of(response: Response, request: Request) -> str | None:
    """What is wrong with a response, None for a correct one. A 429 or 503 is correct; where responses are
    compared it must give a reason.
    """
    if response.status in REFUSED:
        if request.expected is None or gives_reason(response.body):
            return None
        return f"status {response.status} without a reason"
    if response.status >= 400:
        return f"status {response.status}"
    if not request.tasks or response.body == request.expected:
        return None
    try:
        results = msgspec.json.decode(response.body)["results"]
    except (ValueError, KeyError, TypeError):
        return "a response without results"
    if len(results) != request.tasks:
        return f"{len(results)} results for {request.tasks} tasks"
    if not all(isinstance(each, dict) and "result" in each for each in results):
        return "a task that could not be predicted"
    if request.expected is not None and not same(results, msgspec.json.decode(request.expected)["results"]):
        return WRONG
    return None


def gives_reason(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return False


def same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal, numbers to TOLERANCE."""
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= TOLERANCE
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            same(each, expected[name]) for name, each in found.items()
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)
