"""Addresses and credentials of Label Studio and of an ML backend, from the command line and the environment.
No message shows a credential.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from server.errors import BadSetting
from server.files import read_secret

KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
USER_VARIABLE, PASSWORD_VARIABLE = "PRELABEL_BASIC_AUTH_USER", "PRELABEL_BASIC_AUTH_PASS"


@dataclass(frozen=True)
class BasicAuth:
    user: str
    password: str

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return "BasicAuth(…)"


def web_address(option: str, url: str) -> str:
    """The URL without a slash at its end. Raises BadSetting."""
    if "@" in url:
        raise BadSetting(
            f"{option}: the address must not hold a user and a password, because it is shown and stored. "
            "Give them with --basic-auth."
        )
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        raise BadSetting(f"{option}: expected an address such as http://192.0.2.7:9090, found {url!r}.")
    if parts.query or parts.fragment:
        raise BadSetting(f"{option}: the address must end before its ? or #.")
    return url.rstrip("/")


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host, port."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def may_redirect(server: str, url: str) -> bool:
    """Whether a redirect from `server` to `url` may be followed: to the same origin, or to HTTPS on the same
    host.
    """
    (scheme, host, _), (new_scheme, new_host, _) = origin(server), origin(url)
    return origin(url) == origin(server) or (new_host == host and (scheme, new_scheme) == ("http", "https"))


def token(environ: Mapping[str, str]) -> str:
    """Label Studio's API token. Raises BadSetting."""
    found = read_secret(KEY_VARIABLE, environ).strip()
    if not found:
        raise BadSetting(
            f"{KEY_VARIABLE} is not set. Set it to an API token of Label Studio, or {KEY_VARIABLE}_FILE to "
            "the name of a file that holds one. Label Studio shows the token under Account & Settings (the "
            "round picture at the top right) → Personal Access Token or Legacy Token."
        )
    return found


def basic_auth(option: str | None, environ: Mapping[str, str]) -> BasicAuth | None:
    """The backend's user and password from `USER:PASSWORD`, else from the environment. Raises BadSetting."""
    if option is not None:
        user, _, password = option.partition(":")
        if not (user and password):
            raise BadSetting("--basic-auth: expected USER:PASSWORD.")
    else:
        user, password = environ.get(USER_VARIABLE, ""), read_secret(PASSWORD_VARIABLE, environ)
        if bool(user) != bool(password):
            raise BadSetting(f"{USER_VARIABLE} and {PASSWORD_VARIABLE}: set both or neither.")
    if ":" in user or not (user + password).isascii():
        raise BadSetting(
            "The backend's user and password must be ASCII, and the user must not contain a colon; Label "
            "Studio cannot send others."
        )
    return BasicAuth(user, password) if user else None
