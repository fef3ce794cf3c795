"""JSON in and out: bodies within bounds, and refusals that name the field."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from server.errors import BodyTimeout, ClientLeft, RequestTooLarge
from server.transport.admission import AdmissionTicket
from server.transport.json_codec import parse_object

T = TypeVar("T")


@dataclass(frozen=True)
class BodyBounds:
    """`max_bytes` of a body, seconds of `pause` between two parts of it, and seconds of `timeout` for all."""

    max_bytes: int
    pause: float
    timeout: float

    def check(self, size: int) -> None:
        """Raises RequestTooLarge."""
        if size > self.max_bytes:
            raise RequestTooLarge(
                f"The body is larger than {self.max_bytes} bytes (PRELABEL_MAX_BODY_BYTES). Send fewer "
                "tasks at once."
            )


async def read_object(request: Request, bounds: BodyBounds, empty: bytes = b"") -> dict[str, Any]:
    """The body as a JSON object; no body at all is read as `empty`. Raises BadRequest and what `read_body`
    raises.
    """
    return await parse_object(await read_body(request, bounds) or bytearray(empty))


async def read_body(request: Request, bounds: BodyBounds, ticket: AdmissionTicket | None = None) -> bytearray:
    """The body, its bytes counted to what is `ticket`. Raises BodyTimeout, ClientLeft, Overloaded,
    RequestTooLarge.
    """
    body = bytearray()
    told = request.headers.get("content-length", "")
    if told.isdecimal():
        # refused before it is read; whoever tells less than he sends is met below
        size = int(told[:20])  # of so many digits already too large, and of thousands no number to Python
        bounds.check(size)
        if ticket is not None:
            ticket.reserve(size)
    loop = asyncio.get_running_loop()
    last = loop.time() + bounds.timeout
    try:
        async with asyncio.timeout_at(min(last, loop.time() + bounds.pause)) as limit:
            async for chunk in request.stream():
                body += chunk
                bounds.check(len(body))
                if ticket is not None:
                    ticket.add_bytes(len(chunk))
                limit.reschedule(min(last, loop.time() + bounds.pause))
    except ClientDisconnect:
        raise ClientLeft("The client left before its body was complete.") from None
    except TimeoutError:
        raise BodyTimeout(
            f"The body stopped coming after {len(body)} bytes: no more for {bounds.pause:g} s "
            f"(PRELABEL_BODY_TIMEOUT), or not all within {bounds.timeout:g} s."
        ) from None
    return body


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Ends the block when the client is gone. To be used when the body has been read. Raises ClientLeft."""
    mine = asyncio.current_task()
    assert mine is not None  # noqa: S101 - this is a coroutine
    left = False

    async def watch() -> None:
        nonlocal left
        await request.receive()  # after the body nothing comes but this
        left = True
        mine.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        mine.uncancel()
        raise ClientLeft("The client left before it was answered.") from None
    finally:
        watcher.cancel()
