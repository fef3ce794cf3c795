"""How much may be inside the server at once: requests for predictions, and bytes of their bodies. What is beyond is refused at once, before it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import Overloaded


@dataclass
class Held:
    """What one request holds of the bounds: bytes of its body so far."""

    admission: "Admission"
    bytes: int = 0

    def grow(self, size: int) -> None:
        """Raises Overloaded."""
        self.admission.expect(size)
        self.admission.bytes += size
        self.bytes += size


@dataclass
class Admission:
    """`requests` and `bytes` are those inside now."""

    max_requests: int
    max_bytes: int
    requests: int = 0
    bytes: int = 0

    @contextmanager
    def request(self) -> Iterator[Held]:
        """Admits a request for as long as the block lasts. Raises Overloaded."""
        if self.requests >= self.max_requests:
            raise Overloaded(f"{self.requests} requests are being answered, which is the limit (PRELABEL_MAX_REQUESTS); send the request again later.")
        held = Held(self)
        self.requests += 1
        try:
            yield held
        finally:
            self.requests -= 1
            self.bytes -= held.bytes

    def expect(self, size: int) -> None:
        """Whether there is room for `size` bytes more. Raises Overloaded."""
        if self.bytes + size > self.max_bytes:
            raise Overloaded(
                f"Requests of {self.bytes} bytes are being answered and {size} more would pass the limit of {self.max_bytes} "
                "(PRELABEL_MAX_WAITING_BYTES); send the request again later."
            )
