"""A reserved port is for one server: no other process finds it free."""

import socket
import sys

import pytest

from tests.ports import reserved_port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets two sockets have one port so"
)


def test_a_server_may_bind_it_and_others_may_not() -> None:
    port = reserved_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        pass
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(("127.0.0.1", port))


def test_no_two_are_the_same() -> None:
    ports = [reserved_port() for _ in range(50)]
    assert len(set(ports)) == 50
