"""uvicorn's HTTP protocol and listening sockets, with limits for clients that stall or send endless heads.

uvicorn closes a connection that is idle between two requests. It would keep a connection forever if the
client never finished the head of a request or never read its response. `Connection` closes the first kind;
TCP_USER_TIMEOUT makes the operating system close the second. Neither uvicorn nor its parser limits the bytes
of a head; `Connection` does.
"""

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import BadSetting

HEAD_TIMEOUT = 20.0
"""Seconds to receive the head of a request. The timer starts when the connection opens, and for later
requests with their first byte.
"""

MAX_HEAD = 65_536
"""Bytes of a request's head; also of what a chunked body holds between its parts and after them."""

TOO_LARGE = f"The head of a request may have {MAX_HEAD:,} bytes. Send fewer or shorter headers.".encode()
HEAD_ERROR = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(TOO_LARGE), TOO_LARGE)
)

READ_TIMEOUT = 60.0
"""Seconds after which a connection is dropped if the client reads nothing of its response."""

ACCEPTS = 16
"""Maximum connections accepted in one turn of the event loop: libuv accepts one per turn and listening
socket. Turns are long under load and Label Studio opens a connection per request. With one socket,
connections, including those of /health, waited for seconds and were lost when the backlog was full.
"""

BACKLOG = 2048
"""Connections that the system keeps until they are accepted; it may allow fewer."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a timeout and a size for request heads. Bodies have their own limits where they
    are read (`server/transport/request_body.py`).
    """

    def __init__(self, *args: Any, head_timeout: float = HEAD_TIMEOUT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # since the last head ended or the last part of a body arrived

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            room = MAX_HEAD - self._head_bytes
            part, data = data[:room], data[room:]
            self._head_bytes += len(part)
            super().data_received(part)
            if self._head_bytes >= MAX_HEAD:
                self._reject_head()
        if self._head_timer is None and self.cycle is not None and self.cycle.response_complete:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        # abort an idle connection: a TLS close waits up to 30 s for the client's reply
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def _reject_head(self) -> None:
        self.logger.warning("A request's head has more than %s bytes.", f"{MAX_HEAD:,}")
        if self.cycle is None or self.cycle.response_complete:  # else another response is under way
            self.transport.write(HEAD_ERROR)
        self.transport.close()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout, self._close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket with this address; the port opens with `listen`. Raises BadSetting."""
    try:
        with ExitStack() as on_error:
            bound = on_error.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            on_error.pop_all()
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from None
    bound.set_inheritable(True)
    return bound


def listen(bound: socket.socket, read_timeout: float = READ_TIMEOUT) -> list[socket.socket]:
    """Listen on the port: one socket, duplicated ACCEPTS times. Connections queue until the server runs.
    `read_timeout` in seconds. Raises BadSetting if another program was faster.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port, *_ = bound.getsockname()
        raise _unusable(host, port, error) from None
    # Linux only; accepted connections inherit it, and it also applies while the client's window is closed
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(read_timeout * 1000))
    return [bound, *(bound.dup() for _ in range(ACCEPTS - 1))]


def _unusable(host: str, port: int, error: OSError | UnicodeError) -> BadSetting:
    """Why the server cannot listen on this address: the setting to change, and how."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return BadSetting(
            f"port (PRELABEL_PORT) = {port}: another program listens on it; stop that program, or choose "
            "another port with --port (0 takes a free one)."
        )
    if number == errno.EACCES:
        return BadSetting(
            f"port (PRELABEL_PORT) = {port}: this user may not open it; choose a port from 1024 up with "
            "--port."
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or "not a host name"
    return BadSetting(
        f"host (PRELABEL_HOST) = {host!r}: this machine cannot listen on that address ({reason}); give "
        "--host 127.0.0.1 for this machine alone, or --host 0.0.0.0 for all its networks."
    )
