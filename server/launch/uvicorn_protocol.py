"""Connections that do nothing, or take nothing, do not stay.

uvicorn closes a connection that is idle between two requests. A client that never ends the head of a request,
or never reads its answer, would keep one for ever; the first is closed here, the second by the operating
system.
"""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT = 20.0
"""Seconds for the head of a request, from the first byte, or from the connection's beginning to the first
request's end of head.
"""

READ_TIMEOUT = 60.0
"""Seconds after which a client that takes no more bytes of its answer is given up."""

ACCEPTS = 16
"""Most connections that are taken in one turn of the event loop. libuv takes one a turn from each socket that
it listens on. Turns are long while many requests are answered, and Label Studio makes a connection for each
request: under load they waited for seconds to be taken, /health among them, and were lost when too many did.
"""


class Connection(HttpToolsProtocol):
    """uvicorn's, with a time limit for heads. The body has one where it is read (`server/transport/request_body.py`)."""

    _head_alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_alarm is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        # an idle connection is not said farewell to: over TLS the client must answer that, and has 30 s for
        # it
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def _await_head(self) -> None:
        self._head_alarm = self.loop.call_later(HEAD_TIMEOUT, self._close)

    def _head_came(self) -> None:
        if self._head_alarm is not None:
            self._head_alarm.cancel()
            self._head_alarm = None

    def _close(self) -> None:
        self.transport.close()


def listen(config: uvicorn.Config) -> list[socket.socket]:
    """The socket, ACCEPTS times, on which connections wait until the server runs; they are given up when
    their clients take nothing for READ_TIMEOUT.
    """
    bound = config.bind_socket()
    bound.listen(config.backlog)
    # where Linux has it: connections inherit it, and it counts also while the client's window is closed
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_TIMEOUT * 1000))
    return [bound, *(bound.dup() for _ in range(ACCEPTS - 1))]
