"""The steps that `/predict` and `/v2/…/infer` share: admit, read, parse, predict, write."""

import time
from collections.abc import Mapping
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from server.observability.prediction_stats import PredictionStats
from server.transport.middleware import context_of
from server.transport.request_body import BodyReader, while_connected
from server.transport.responses import server_timing


class Measured(Protocol):
    """Predictions and their measurements, for the access log, metrics and Server-Timing."""

    @property
    def seconds(self) -> Mapping[str, float]: ...
    @property
    def tokens(self) -> int: ...
    @property
    def truncated(self) -> int: ...
    @property
    def prediction_stats(self) -> PredictionStats | None: ...


P = TypeVar("P")
A = TypeVar("A", bound=Measured)


class InferenceCall(Protocol[P, A]):
    """The protocol-specific steps of one prediction request."""

    async def parse(self, body: bytearray) -> P:
        """Raises BadRequest and its subclasses."""

    async def predict(self, parsed: P) -> A: ...

    async def write(self, parsed: P, answer: A) -> Response: ...


async def respond(request: Request, bodies: BodyReader, call: InferenceCall[P, A]) -> Response:
    """The response to one request for predictions.

    Raises what reading the body and the steps of `call` raise.
    """
    with bodies.admission.request() as ticket:
        body = await bodies.read(request, ticket)
        async with while_connected(request):
            received = time.perf_counter()
            parsed = await call.parse(body)
            del body  # what was copied from a large body would double the memory of the request
            parsed_at = time.perf_counter()
            answer = await call.predict(parsed)
            context = context_of(request)
            context.tokens, context.seconds = answer.tokens, answer.seconds
            context.truncated = answer.truncated
            context.prediction_stats = answer.prediction_stats
            predicted_at = time.perf_counter()
            response = await call.write(parsed, answer)
            written_at = time.perf_counter()
            response.headers["Server-Timing"] = server_timing(
                {
                    "parse": parsed_at - received,
                    **answer.seconds,
                    "write": written_at - predicted_at,
                    "total": written_at - received,
                }
            )
            return response
