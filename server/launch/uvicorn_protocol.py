"""uvicorn's HTTP protocol and listening sockets, with limits for clients that stall or send endless heads.

uvicorn closes a connection that is idle between two requests. It would keep a connection forever if the
client never finished the head of a request or never read its response. `Connection` closes the first kind;
TCP_USER_TIMEOUT makes the operating system close the second. Neither uvicorn nor its parser limits the bytes
of a head; `Connection` does.

uvicorn would also parse all that arrives in one turn of the event loop: 250 KB of one-byte chunks, or of
requests, take 30 to 60 ms. `Connection` parses a piece at a time.
"""

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
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

PIECE = 4_096
"""Bytes that are parsed in one call: at most 230 requests. No more are parsed until these are answered."""

PARTS = 1_000
"""Header fields and parts of bodies that a connection parses in one turn of the event loop: 2 ms."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a timeout and a maximum size for request heads, and bounds on what it parses in
    one turn of the event loop. Bodies have their own timeout where they are read
    (`server/transport/request_body.py`).

    What arrived and is not parsed yet waits in `_unparsed`; meanwhile nothing is read from the socket.
    uvicorn's FlowControl pauses this object, which then pauses the transport.
    """

    def __init__(self, *args: Any, head_timeout: float = HEAD_TIMEOUT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._unparsed = bytearray()
        self._head_size = self._parts = 0
        self._next_turn: asyncio.Handle | None = None
        self._paused = False  # by uvicorn
        self._reading = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = FlowControl(self)  # type: ignore[arg-type]  # it calls the next two methods only
        self._start_head_timer()

    def pause_reading(self) -> None:
        self._paused = True
        self._set_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        if self._next_turn is None:
            self._next_turn = self.loop.call_soon(self._turn)
            self._parse()
        self._set_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parts += 1
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._head_size = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._parts += 1
        self._head_size = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._go_on()  # the last queued request may have begun

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._unparsed.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
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

    @property
    def _may_parse(self) -> bool:
        """A request with others queued behind it came whole, so it needs no more data to be answered."""
        return not (self._paused or self.pipeline or self.transport.is_closing())

    def _go_on(self) -> None:
        if self._unparsed and self._next_turn is None:
            self._next_turn = self.loop.call_soon(self._turn)
        self._set_reading()

    def _turn(self) -> None:
        """The first call in a turn of the event loop."""
        self._next_turn = None
        self._parts = 0
        if self._unparsed and self._may_parse:
            self._next_turn = self.loop.call_soon(self._turn)
            self._parse()
        self._set_reading()

    def _parse(self) -> None:
        """Parses what arrived, until that is enough for this turn or has to wait for a response."""
        while self._unparsed and self._may_parse and self._parts < PARTS:
            piece = bytes(self._unparsed[:PIECE])
            del self._unparsed[:PIECE]
            self._head_size += len(piece)
            super().data_received(piece)
            if self._head_timer is None and self.cycle is not None and self.cycle.response_complete:
                self._start_head_timer()
            if self._head_size > MAX_HEAD and not self.transport.is_closing():
                self._reject_head()
        if self.transport.is_closing():
            self._unparsed.clear()

    def _set_reading(self) -> None:
        reading = self._may_parse and not self._unparsed
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

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
    # Linux only; accepted connections inherit it, and it also applies while the client's window is closed
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(read_timeout * 1000))
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port, *_ = bound.getsockname()
        raise _unusable(host, port, error) from None
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
