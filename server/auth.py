"""Who may ask: HTTP Basic for Label Studio, a bearer token of its own for the administrator. Compared in constant time."""

import base64
import binascii
import hmac
from collections.abc import Mapping

from server.errors import AdminOnly, Unauthorized

LABEL_STUDIO = "heartex/"
"""How Label Studio's `User-Agent` begins."""


def check_basic(headers: Mapping[str, str], user: str, password: str) -> None:
    """Let pass whoever gives `user` and `password`, and everybody where no user is set. Raises Unauthorized."""
    if not user:
        return
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        given = b""
    if not hmac.compare_digest(given, f"{user}:{password}".encode()):
        raise Unauthorized("This server asks for a user and a password; give Label Studio those of PRELABEL_BASIC_AUTH_USER and PRELABEL_BASIC_AUTH_PASS.")


def check_health(headers: Mapping[str, str], user: str, password: str) -> None:
    """Health is open to probes. Whoever gives credentials must give the right ones, and so must Label Studio, which has a sentence
    for a health check that is answered 401 and blames the model for anything later. Raises Unauthorized.
    """
    if "authorization" in headers or headers.get("user-agent", "").startswith(LABEL_STUDIO):
        check_basic(headers, user, password)


def check_admin(headers: Mapping[str, str], token: str) -> None:
    """Raises AdminOnly; for everybody where no token is set."""
    if not token:
        raise AdminOnly("This is for the administrator, and off: start the server with PRELABEL_ADMIN_TOKEN.")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        raise AdminOnly("This is for the administrator: send the token of PRELABEL_ADMIN_TOKEN as `Authorization: Bearer …`.")
