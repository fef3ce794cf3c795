"""A cheap HTTP/1.1 client connection: one request at a time, raw request bytes in, response out."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast
from urllib.parse import SplitResult

import httptools


@dataclass
class Response:
    """`timing` is its Server-Timing header; `at` is when it was complete, by `time.perf_counter`."""

    status: int
    body: bytes
    timing: bytes
    at: float


class Connection(asyncio.Protocol):
    """`send` raises ConnectionError if the connection ends before the response."""

    def __init__(self) -> None:
        self.open = False
        self._response: asyncio.Future[Response] | None = None
        self._body: list[bytes] = []
        self._timing = b""
        self._parser = httptools.HttpResponseParser(self)

    async def send(self, data: bytes) -> Response:
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._response

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server-timing":
            self._timing = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        response = Response(
            self._parser.get_status_code(), b"".join(self._body), self._timing, time.perf_counter()
        )
        self._body, self._timing = [], b""
        self.open = self._parser.should_keep_alive()
        if self._response is not None and not self._response.done():
            self._response.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        self.open = False
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionError("the connection ended before the response"))


async def connect(address: SplitResult) -> Connection:
    """Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, address.hostname or "", address.port or 80
    )
    return connection


def request_bytes(
    address: SplitResult,
    method: str,
    body: bytes = b"",
    path: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A whole request as Label Studio writes it, to `path` or else to the path of `address`, with extra
    `headers`.
    """
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if method == "POST" else ""
    content += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"{method} {path or address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: "
        "heartex/1.23.2\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Accept: */*\r\nConnection: keep-alive\r\n{content}\r\n"
    )
    return head.encode() + body
