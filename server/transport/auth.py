"""Authentication: HTTP Basic for Label Studio, bearer tokens for other programs and for the administrator.

Credentials are compared in constant time.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import AdminOnly, Unauthorized

LABEL_STUDIO = "heartex/"
"""Prefix of Label Studio's `User-Agent`."""

BASIC = 'Basic realm="Prelabel", charset="UTF-8"'
BEARER = 'Bearer realm="Prelabel"'


@dataclass(frozen=True, repr=False)
class Credentials:
    """The accepted user with its password, and the accepted tokens. Without both, everybody is accepted."""

    user: str = ""
    password: str = ""
    tokens: tuple[str, ...] = ()

    @property
    def schemes(self) -> list[str]:
        """The authentication schemes that are accepted."""
        return [*(["basic"] if self.user else []), *(["bearer"] if self.tokens else [])]

    @property
    def challenge(self) -> str:
        return ", ".join({"basic": BASIC, "bearer": BEARER}[scheme] for scheme in self.schemes)


def check_caller(headers: Mapping[str, str], accepted: Credentials) -> None:
    """Raises Unauthorized."""
    if not accepted.user and not accepted.tokens:
        return
    scheme, given = _split_authorization(headers)
    # Compare with all of them, so that the time does not show which one was close.
    matches = [_equal(given, token) for token in accepted.tokens] if scheme == "bearer" else []
    if accepted.user and scheme == "basic":
        matches.append(_equal(_decode_basic(given), f"{accepted.user}:{accepted.password}"))
    if not any(matches):
        raise Unauthorized(_how_to_authenticate(accepted), accepted.challenge)


def check_health(headers: Mapping[str, str], accepted: Credentials) -> None:
    """Health is open to probes without credentials; wrong credentials are refused. Label Studio always needs
    them: it shows its own message when its health check gets 401, and blames the model for later errors.

    Raises Unauthorized.
    """
    if "authorization" in headers or headers.get("user-agent", "").startswith(LABEL_STUDIO):
        check_caller(headers, accepted)


def check_admin(headers: Mapping[str, str], token: str) -> None:
    """Raises AdminOnly: for a wrong token, and always if the server has no administrator token."""
    if not token:
        raise AdminOnly(
            "Administration is off; start the server with PRELABEL_ADMIN_TOKEN to use it.", BEARER
        )
    scheme, given = _split_authorization(headers)
    if not (_equal(given, token) and scheme == "bearer"):
        raise AdminOnly(
            "This route needs the token of PRELABEL_ADMIN_TOKEN; send it as `Authorization: Bearer …`.",
            BEARER,
        )


def _how_to_authenticate(accepted: Credentials) -> str:
    user = (
        "a user and a password (in Label Studio, those of PRELABEL_BASIC_AUTH_USER and "
        "PRELABEL_BASIC_AUTH_PASS)"
    )
    token = "a token (one of PRELABEL_API_TOKEN, as `Authorization: Bearer …`)"  # noqa: S105 - words
    ways = [*([user] if accepted.user else []), *([token] if accepted.tokens else [])]
    return f"This server needs {' or '.join(ways)}."


def _split_authorization(headers: Mapping[str, str]) -> tuple[str, bytes]:
    """The scheme in lower case, and the credentials as sent."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower(), given.encode("latin-1", "replace")


def _decode_basic(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _equal(given: bytes, expected: str) -> bool:
    """Compares digests: all have one length, so the time shows neither length nor content."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected.encode()).digest())
