"""How much may be inside the server at once: requests for predictions, and bytes of their bodies. What is
beyond is refused at once, before it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import Overloaded

LARGE = 65_536
"""Bytes of a body that has room for many tasks. Such requests wait long: under overload they would soon have
all places, no annotator's single task would find one, and the server would be at work on them long after the
load had ended.
"""

LARGE_SHARE = 8
"""One of so many places may be taken by them."""


@dataclass
class AdmissionTicket:
    """What one request holds of the bounds: bytes of its body so far, and a large request's place."""

    admission: "AdmissionController"
    bytes: int = 0
    large: bool = False

    def reserve(self, size: int) -> None:
        """A body of `size` bytes is to come. Raises Overloaded."""
        self.admission.expect(size)
        if size > LARGE:
            self.admission.expect_large()
            self.admission.large += 1
            self.large = True

    def add_bytes(self, size: int) -> None:
        """Raises Overloaded."""
        self.admission.expect(size)
        self.admission.bytes += size
        self.bytes += size


@dataclass
class AdmissionController:
    """`requests`, those of them that are `large`, and `bytes` are those inside now."""

    max_requests: int
    max_bytes: int
    requests: int = 0
    bytes: int = 0
    large: int = 0

    @contextmanager
    def request(self) -> Iterator[AdmissionTicket]:
        """Admits a request for as long as the block lasts. Raises Overloaded."""
        if self.requests >= self.max_requests:
            raise Overloaded(
                f"{self.requests} requests are being answered, which is the limit "
                "(PRELABEL_MAX_REQUESTS); send the request again later."
            )
        ticket = AdmissionTicket(self)
        self.requests += 1
        try:
            yield ticket
        finally:
            self.requests -= 1
            self.bytes -= ticket.bytes
            self.large -= ticket.large

    def expect(self, size: int) -> None:
        """Whether there is room for `size` bytes more. Raises Overloaded."""
        if self.bytes + size > self.max_bytes:
            raise Overloaded(
                f"Requests of {self.bytes} bytes are being answered and {size} more would pass the "
                f"limit of {self.max_bytes} "
                "(PRELABEL_MAX_WAITING_BYTES); send the request again later."
            )

    def expect_large(self) -> None:
        """Whether there is room for one large request more. Raises Overloaded."""
        if self.large >= max(1, self.max_requests // LARGE_SHARE):
            raise Overloaded(
                f"{self.large} requests with bodies of more than {LARGE} bytes are being answered, one "
                f"in {LARGE_SHARE} of what PRELABEL_MAX_REQUESTS "
                "allows: the rest is for single tasks. Send the request again later."
            )
