"""Admission control: how many requests, and how many bytes of their bodies, the server holds at once.

A request beyond a limit is rejected at once; one without Content-Length as soon as its bytes exceed a limit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import Overloaded

LARGE_REQUEST_BYTES = 65_536
"""Bytes. A larger body has room for many tasks. Large requests are slow: without a cap they would fill every
slot under overload and starve single-task requests.
"""

LARGE_SHARE = 8
"""One in this many request slots may hold a large request."""

CONTROL_REQUESTS = 32
"""Requests to `/setup`, `/webhook` and `/admin` that are read at once."""

WEBHOOKS, WEBHOOK_BODIES = 128, 2
"""Webhooks that are received at once by a server that learns, and how many of them may have the largest
body.
"""


@dataclass
class AdmissionTicket:
    """The share of the limits that one request holds."""

    controller: "AdmissionController"
    bytes: int = 0
    large: bool = False

    def expect(self, size: int) -> None:
        """A body of `size` bytes is about to arrive; count it as large if it is. Raises Overloaded."""
        self.controller.check_bytes(size)
        self._count_as_large(size)

    def add_bytes(self, size: int) -> None:
        """Count `size` bytes that have arrived. Raises Overloaded."""
        self.controller.check_bytes(size)
        self.controller.bytes += size
        self.bytes += size
        self._count_as_large(self.bytes)

    def _count_as_large(self, size: int) -> None:
        if size > LARGE_REQUEST_BYTES and not self.large:
            self.controller.check_large()
            self.controller.large += 1
            self.large = True


@dataclass
class AdmissionController:
    """Counts the requests in progress: `requests` of any size, `large` ones among them, and their `bytes`.

    `requests_limit` and `bytes_limit` name the limits in error messages.
    """

    max_requests: int
    max_bytes: int
    max_large: int
    requests_limit: str = "PRELABEL_MAX_REQUESTS"
    bytes_limit: str = "PRELABEL_MAX_WAITING_BYTES"
    requests: int = 0
    bytes: int = 0
    large: int = 0

    @classmethod
    def for_predictions(cls, max_requests: int, max_bytes: int) -> "AdmissionController":
        return cls(max_requests, max_bytes, max_large=max(1, max_requests // LARGE_SHARE))

    @classmethod
    def for_control_requests(cls, max_body_bytes: int) -> "AdmissionController":
        """Separate slots for short requests, so that predictions and set-ups cannot crowd each other out."""
        return cls(
            CONTROL_REQUESTS,
            CONTROL_REQUESTS * max_body_bytes,
            max_large=CONTROL_REQUESTS,
            requests_limit="a fixed limit for /setup, /webhook and /admin",
            bytes_limit="a fixed limit for /setup, /webhook and /admin",
        )

    @classmethod
    def for_webhooks(cls, max_body_bytes: int) -> "AdmissionController":
        """Label Studio neither waits for a webhook nor repeats it, so few are worth their memory."""
        return cls(
            WEBHOOKS,
            WEBHOOK_BODIES * max_body_bytes,
            max_large=WEBHOOKS,
            requests_limit="a fixed limit for /webhook",
            bytes_limit="a fixed limit for /webhook",
        )

    @contextmanager
    def request(self) -> Iterator[AdmissionTicket]:
        """Admit one request while the block runs. Raises Overloaded."""
        if self.requests >= self.max_requests:
            raise Overloaded(
                f"{self.requests} requests are in progress, which is the maximum ({self.requests_limit}); "
                "retry later."
            )
        ticket = AdmissionTicket(self)
        self.requests += 1
        try:
            yield ticket
        finally:
            self.requests -= 1
            self.bytes -= ticket.bytes
            self.large -= ticket.large

    def check_bytes(self, size: int) -> None:
        """Raises Overloaded if `size` more bytes would exceed the limit."""
        if self.bytes + size > self.max_bytes:
            raise Overloaded(
                f"Requests in progress hold {self.bytes} bytes; {size} more would exceed the maximum of "
                f"{self.max_bytes} ({self.bytes_limit}). Retry later."
            )

    def check_large(self) -> None:
        """Raises Overloaded if one more large request would exceed the limit."""
        if self.large >= self.max_large:
            raise Overloaded(
                f"{self.large} requests with more than {LARGE_REQUEST_BYTES} bytes are in progress, "
                f"which is the maximum (one in {LARGE_SHARE} of {self.requests_limit}; the rest is for "
                "single tasks). Retry later."
            )
