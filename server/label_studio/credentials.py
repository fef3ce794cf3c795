"""How the command line gets at Label Studio and at an ML backend: addresses, a token, a user and a password.
Nothing of it is ever shown.
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
            f"{option}: no user and password in the address, for it is shown and stored; give them with "
            "--basic-auth."
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


def stays(named: str, url: str) -> bool:
    """Whether a redirect from the server that was `named` may be followed to `url`: within it, and on to the
    same host's https.
    """
    (scheme, host, _), (scheme_then, host_then, _) = origin(named), origin(url)
    return origin(url) == origin(named) or (host_then == host and (scheme, scheme_then) == ("http", "https"))


def token(environ: Mapping[str, str]) -> str:
    """Label Studio's API token. Raises BadSetting."""
    found = read_secret(KEY_VARIABLE, environ).strip()
    if not found:
        raise BadSetting(
            f"{KEY_VARIABLE} is not set: put an API token of Label Studio there, or the name of a file "
            f"with one in {KEY_VARIABLE}_FILE. Label Studio shows"
            " it under Account & Settings (the round picture at the top right) → Personal Access Token "
            "or Legacy Token."
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
            raise BadSetting(f"{USER_VARIABLE} and {PASSWORD_VARIABLE} go together; only one of them is set.")
    if ":" in user or not (user + password).isascii():
        raise BadSetting(
            "The backend's user and password: Label Studio can only send ASCII characters, and no colon "
            "in the user."
        )
    return BasicAuth(user, password) if user else None
