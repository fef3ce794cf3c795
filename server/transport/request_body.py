"""Reads request bodies: limits of size and time, admission, and clients that disconnect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from server.errors import BodyEncoded, BodyTimeout, ClientLeft, RequestTooLarge
from server.transport.admission import AdmissionController, AdmissionTicket
from server.transport.json_codec import parse_fields

MAX_CONTROL_BODY = 2 * 2**20
"""Bytes of a body sent to `/setup`, `/webhook` or `/admin`: a labeling config of the maximum size fits."""

MAX_WEBHOOK_BODY = 64 * 2**20
"""Bytes of a webhook to a server that learns. Label Studio sends up to 5,000 annotations with their tasks in
one request: 13 MB with texts of 1,300 characters.
"""

MAX_LENGTH_DIGITS = 20
"""Digits of Content-Length that are read; a number with more is too large already."""


@dataclass(frozen=True)
class BodyLimits:
    """`max_bytes` per body, at most `pause` seconds between two parts of it, `timeout` seconds for all of it.

    `size_limit` names the limit of the size, and what to do about it, in error messages.
    """

    max_bytes: int
    pause: float
    timeout: float
    size_limit: str = "PRELABEL_MAX_BODY_BYTES; send fewer tasks per request"

    def check_size(self, size: int) -> None:
        """Raises RequestTooLarge."""
        if size > self.max_bytes:
            raise RequestTooLarge(f"The body is larger than {self.max_bytes} bytes ({self.size_limit}).")


@dataclass(frozen=True)
class BodyReader:
    """The limits of a group of routes, and the admission that they share."""

    limits: BodyLimits
    admission: AdmissionController

    @asynccontextmanager
    async def json_fields(
        self, request: Request, kind: type, empty: bytes = b""
    ) -> AsyncIterator[dict[str, Any]]:
        """The fields of the body, a JSON object, that the TypedDict `kind` names, of any type; None where
        there are none. A missing body is read as `empty`. The request keeps its slot until the block ends.

        Raises BadRequest and its subclasses, Overloaded.
        """
        with self.admission.request() as ticket:
            yield await parse_fields(await self.read(request, ticket) or bytearray(empty), kind)

    async def read(self, request: Request, ticket: AdmissionTicket) -> bytearray:
        """The body; its bytes are counted on `ticket`.

        Raises BodyEncoded, BodyTimeout, ClientLeft, Overloaded, RequestTooLarge.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise BodyEncoded("Content-Encoding: the body is compressed; send it without compression.")
        limits, body = self.limits, bytearray()
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            # Reject early by Content-Length; an understated length is caught below.
            size = int(length[:MAX_LENGTH_DIGITS])
            limits.check_size(size)
            ticket.expect(size)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.timeout
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + limits.pause)) as timeout:
                async for chunk in request.stream():
                    body += chunk
                    limits.check_size(len(body))
                    ticket.add_bytes(len(chunk))
                    timeout.reschedule(min(deadline, loop.time() + limits.pause))
        except ClientDisconnect:
            raise ClientLeft("The client disconnected before its body was complete.") from None
        except TimeoutError:
            raise BodyTimeout(
                f"The body stopped arriving after {len(body)} bytes: nothing for {limits.pause:g} s "
                f"(PRELABEL_BODY_TIMEOUT), or incomplete after {limits.timeout:g} s."
            ) from None
        return body


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancels the block when the client disconnects. Use it after the body was read. Raises ClientLeft."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine
    disconnected = False

    async def watch() -> None:
        nonlocal disconnected
        await request.receive()  # after the body, ASGI sends only http.disconnect
        disconnected = True
        task.cancel()

    connection = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not disconnected:
            raise
        task.uncancel()
        raise ClientLeft("The client disconnected before it got its answer.") from None
    finally:
        connection.cancel()
