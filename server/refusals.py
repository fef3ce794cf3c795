"""What a refusal is answered with: in Prelabel's own words, or as the Open Inference Protocol has it."""

from collections.abc import Mapping
from typing import TypedDict

from server.bodies import Json


class Refusal(TypedDict):
    """`error` is the kind, `detail` a sentence for a person."""

    status: int
    error: str
    detail: str
    request_id: str


class ProtocolRefusal(TypedDict):
    """`error` is a sentence for a person."""

    error: str


def refusal(
    path: str, status: int, kind: str, detail: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Json:
    """The answer to a request for `path` that is refused."""
    body: Refusal | ProtocolRefusal = (
        {"error": detail}
        if is_protocols(path)
        else {"status": status, "error": kind, "detail": detail, "request_id": request_id}
    )
    return Json(body, status, headers=headers)


def is_protocols(path: str) -> bool:
    """Whether `path` is one of the Open Inference Protocol's, under whatever prefix."""
    return "/v2/" in f"{path}/"
