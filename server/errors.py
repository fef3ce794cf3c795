"""Everything that Prelabel refuses, as one tree.

    PrelabelError                 500
    ├── BadSetting                an environment variable or option that cannot be; refuses to start
    ├── BadBundle                 a bundle that is missing, altered, or of a newer format; refuses to start
    ├── BadInput                  a file that is not what it claims to be (command line only)
    ├── LabelStudioUnreachable    no answer from Label Studio (command line only)
    ├── LabelStudioRefused        Label Studio answered with an error (command line only)
    ├── BackendFailed             an ML backend gave no usable answer (command line only)
    ├── Unauthorized              401  no credentials, or wrong ones
    │   └── AdminOnly             401  no administrator's token, or a wrong one
    ├── BadRequest                400  the body is not what the protocol says
    │   ├── BodyTimeout           408  the body stopped coming
    │   ├── ClientLeft            499  nobody waits for the answer any more
    │   ├── NotServed             404  no model of that name or version
    │   ├── BodyEncoded           415  the body is compressed
    │   └── RequestTooLarge       413  more bytes or tasks, or a longer text, than the settings allow
    ├── BadLabelConfig            422  a labeling config that this model cannot answer
    ├── Overloaded                429  no room in the queue for the whole request
    ├── Unavailable               503  the server is stopping
    │   └── DeadlineExceeded      503  the answer was not ready in time
    └── EngineFailed              500  the model call raised or gave back nonsense

The message is one sentence for a person: what was expected, what was found, what to do.
"""

from collections.abc import Mapping
from types import MappingProxyType

LONGEST = 2_000
"""Characters of a refusal, or of whatever else quotes what a client wrote."""


def one_line(words: str) -> str:
    """`words` in one line that has an end, whatever they quote."""
    words = " ".join(words.split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


class PrelabelError(Exception):
    """A refusal in plain words. `status` is the HTTP status it is answered with, `headers` go with it."""

    status = 500
    headers: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return one_line(str(self.args[0] if self.args else ""))


class BadSetting(PrelabelError):
    pass


class BadBundle(PrelabelError):
    pass


class BadInput(PrelabelError):
    pass


class LabelStudioUnreachable(PrelabelError):
    pass


class LabelStudioRefused(PrelabelError):
    """`http_status` is what Label Studio answered."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message, http_status)
        self.http_status = http_status


class BackendFailed(PrelabelError):
    pass


class Unauthorized(PrelabelError):
    """`challenge` names the ways to give credentials, for WWW-Authenticate."""

    status = 401

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.headers = MappingProxyType({"WWW-Authenticate": challenge})


class AdminOnly(Unauthorized):
    pass


class BadRequest(PrelabelError):
    status = 400


class BodyTimeout(BadRequest):
    status = 408
    headers = MappingProxyType({"Connection": "close"})


class ClientLeft(BadRequest):
    """Its status is nginx's, for the log alone."""

    status = 499


class NotServed(BadRequest):
    status = 404


class BodyEncoded(BadRequest):
    status = 415


class RequestTooLarge(BadRequest):
    status = 413


class BadLabelConfig(PrelabelError):
    status = 422


class Overloaded(PrelabelError):
    status = 429
    headers = MappingProxyType({"Retry-After": "1"})


class Unavailable(PrelabelError):
    status = 503
    headers = MappingProxyType({"Retry-After": "1"})


class DeadlineExceeded(Unavailable):
    pass


class EngineFailed(PrelabelError):
    pass
