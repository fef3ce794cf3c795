"""The errors Prelabel raises on purpose, as one tree. `status` and `meaning` are class attributes.

    PrelabelError
    ├── BadSetting
    ├── BadBundle
    ├── BadInput
    ├── LabelStudioUnreachable
    ├── LabelStudioRefused
    ├── BackendFailed
    ├── Unauthorized
    │   └── AdminOnly
    ├── BadRequest
    │   ├── BodyTimeout
    │   ├── ClientLeft
    │   ├── NotServed
    │   ├── BodyEncoded
    │   └── RequestTooLarge
    ├── BadLabelConfig
    ├── Overloaded
    ├── Unavailable
    │   └── DeadlineExceeded
    └── EngineFailed

A message is written for a person: what was expected, what was found, and the remedy.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import ClassVar

LONGEST = 2_000
"""Maximum characters of an error message, and of anything else that quotes client input."""


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, cut after `longest` characters."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` with the known word that is closest to `word` in any case; "" if none is close."""
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(word.casefold(), folded, 1)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


JSON_TYPES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def json_type(value: object) -> str:
    """The JSON type of a value, in words."""
    return JSON_TYPES.get(type(value), type(value).__name__)


class PrelabelError(Exception):
    """Base class. `status` is the HTTP status of the response, `meaning` its description in the OpenAPI
    document, `headers` are added to the response.
    """

    status: ClassVar[int] = 500
    meaning: ClassVar[str] = "internal server error"
    headers: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return one_line(str(self.args[0] if self.args else ""))


class BadSetting(PrelabelError):
    meaning = "an environment variable or option has an invalid value; the command does not start"


class BadBundle(PrelabelError):
    meaning = "the bundle is missing, altered or of a newer format; the command does not start"


class BadInput(PrelabelError):
    meaning = "an input or output file cannot be used (command line only)"


class LabelStudioUnreachable(PrelabelError):
    meaning = "Label Studio cannot be reached (command line only)"


class LabelStudioRefused(PrelabelError):
    """`http_status` is the status of Label Studio's response."""

    meaning = "Label Studio returned an error (command line only)"

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message, http_status)
        self.http_status = http_status


class BackendFailed(PrelabelError):
    meaning = "an ML backend returned no usable response (command line only)"


class Unauthorized(PrelabelError):
    """`challenge` is the value of WWW-Authenticate: the accepted authentication schemes."""

    status = 401
    meaning = "credentials are missing or wrong"

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.headers = MappingProxyType({"WWW-Authenticate": challenge})


class AdminOnly(Unauthorized):
    meaning = "the administrator's token is missing or wrong"


class BadRequest(PrelabelError):
    status = 400
    meaning = "the request does not follow the protocol"


class BodyTimeout(BadRequest):
    status = 408
    meaning = "the client stopped sending the body"
    headers = MappingProxyType({"Connection": "close"})


class ClientLeft(BadRequest):
    """Only appears in the log and the metrics; 499 is nginx's status for it."""

    status = 499
    meaning = "the client closed the connection before the response"


class NotServed(BadRequest):
    status = 404
    meaning = "no model of that name or version is served"


class BodyEncoded(BadRequest):
    status = 415
    meaning = "the body is compressed"


class RequestTooLarge(BadRequest):
    status = 413
    meaning = "the body, the number of tasks or a text exceeds a limit of the settings"


class BadLabelConfig(PrelabelError):
    status = 422
    meaning = "the model cannot predict for this labeling config"


class Overloaded(PrelabelError):
    status = 429
    meaning = "the queue has no room for the whole request; retry later"
    headers = MappingProxyType({"Retry-After": "1"})


class Unavailable(PrelabelError):
    status = 503
    meaning = "the server is stopping or cannot run model calls"
    headers = MappingProxyType({"Retry-After": "1"})


class DeadlineExceeded(Unavailable):
    meaning = "the request was not finished before its deadline"


class EngineFailed(PrelabelError):
    meaning = "internal server error, or a failed model call"
