"""What `prelabel connect` was asked for, checked before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import BadSetting
from server.label_studio.credentials import BasicAuth, basic_auth, web_address


@dataclass(frozen=True)
class ConnectOptions:
    """`backend` without a slash at its end; `check` only looks; `replace` removes other ML backends of the
    project.
    """

    label_studio: str
    project: int
    backend: str
    auth: BasicAuth | None = None
    check: bool = False
    replace: bool = False


def read_options(
    label_studio: str,
    project: int,
    backend: str,
    auth: str | None,
    environ: Mapping[str, str],
    *,
    check: bool,
    disconnect: bool,
    replace: bool,
) -> ConnectOptions:
    """The command's options as a wish. Raises BadSetting."""
    if disconnect and (check or replace):
        raise BadSetting("--disconnect goes with neither --check nor --replace.")
    addresses = web_address("--label-studio", label_studio), web_address("--backend", backend)
    return ConnectOptions(addresses[0], project, addresses[1], basic_auth(auth, environ), check, replace)
