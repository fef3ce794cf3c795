"""Ports for servers that tests start in processes of their own, and what asks them."""

import atexit
import socket
import ssl
import sys

PLAIN_HTTP = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""`verify` of httpx, which otherwise loads all certificates of the system for each client: 40 ms."""


def reserved_port() -> int:
    """A free loopback port that stays this process's: the system gives it to no client, and no other test run
    finds it free, before the server binds it. For a server that binds with SO_REUSEADDR, as ours does.
    """
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    if sys.platform == "linux":
        # after the bind, so that it was exclusive; a socket that does not listen then leaves the port to one
        # that does
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        atexit.register(reserved.close)
    else:
        reserved.close()
    return port
