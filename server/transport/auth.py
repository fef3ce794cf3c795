"""Who may ask: HTTP Basic for Label Studio, bearer tokens for other programs, and one of its own for the
administrator. Compared in constant time.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import AdminOnly, Unauthorized

LABEL_STUDIO = "heartex/"
"""How Label Studio's `User-Agent` begins."""

BASIC = 'Basic realm="Prelabel", charset="UTF-8"'
BEARER = 'Bearer realm="Prelabel"'


@dataclass(frozen=True, repr=False)
class Callers:
    """A user with a password, and tokens; either is enough, and where neither is set everybody may ask."""

    user: str = ""
    password: str = ""
    tokens: tuple[str, ...] = ()

    @property
    def schemes(self) -> list[str]:
        """How credentials may be given."""
        return [*(["basic"] if self.user else []), *(["bearer"] if self.tokens else [])]

    @property
    def challenge(self) -> str:
        return ", ".join({"basic": BASIC, "bearer": BEARER}[scheme] for scheme in self.schemes)


def check_caller(headers: Mapping[str, str], callers: Callers) -> None:
    """Raises Unauthorized."""
    if not callers.user and not callers.tokens:
        return
    scheme, given = _credentials(headers)
    # each is compared, so that the time does not tell which came near
    fits = [_same(given, token) for token in callers.tokens] if scheme == "bearer" else []
    if callers.user and scheme == "basic":
        fits.append(_same(_decoded(given), f"{callers.user}:{callers.password}"))
    if not any(fits):
        raise Unauthorized(_asked(callers), callers.challenge)


def check_health(headers: Mapping[str, str], callers: Callers) -> None:
    """Health is open to probes. Whoever gives credentials must give the right ones, and so must Label Studio,
    which has a sentence for a health check that is answered 401 and blames the model for anything later.
    Raises Unauthorized.
    """
    if "authorization" in headers or headers.get("user-agent", "").startswith(LABEL_STUDIO):
        check_caller(headers, callers)


def check_admin(headers: Mapping[str, str], token: str) -> None:
    """Raises AdminOnly; for everybody where no token is set."""
    if not token:
        raise AdminOnly(
            "This is for the administrator, and off: start the server with PRELABEL_ADMIN_TOKEN.", BEARER
        )
    scheme, given = _credentials(headers)
    if not (_same(given, token) and scheme == "bearer"):
        raise AdminOnly(
            "This is for the administrator: send the token of PRELABEL_ADMIN_TOKEN as `Authorization: "
            "Bearer …`.",
            BEARER,
        )


def _asked(callers: Callers) -> str:
    user = (
        "a user and a password; give Label Studio those of PRELABEL_BASIC_AUTH_USER and "
        "PRELABEL_BASIC_AUTH_PASS"
    )
    token = "a token; send one of PRELABEL_API_TOKEN as `Authorization: Bearer …`"  # noqa: S105 - words
    return (
        "This server asks for "
        f"{', or for '.join([*([user] if callers.user else []), *([token] if callers.tokens else [])])}."
    )


def _credentials(headers: Mapping[str, str]) -> tuple[str, bytes]:
    """The scheme in lower case and what follows it, as it was sent."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower(), given.encode("latin-1", "replace")


def _decoded(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _same(given: bytes, expected: str) -> bool:
    """Digests are compared: they are of one length, and the time tells neither length nor content."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected.encode()).digest())
