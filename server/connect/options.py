"""What `prelabel connect` does, checked before any request is sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import BadSetting
from server.label_studio.credentials import BasicAuth, basic_auth, web_address


@dataclass(frozen=True)
class ConnectOptions:
    """URLs have no trailing slash. `check` changes nothing; `replace` removes the project's other ML
    backends. `learn` says whether the project is to learn from its annotations; None leaves that as it is.
    """

    label_studio: str
    project: int
    backend: str
    auth: BasicAuth | None = None
    check: bool = False
    replace: bool = False
    disconnect: bool = False
    learn: bool | None = None


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
    learn: bool | None = None,
) -> ConnectOptions:
    """The options of the command line. Raises BadSetting."""
    if disconnect and (check or replace):
        raise BadSetting("--disconnect cannot be combined with --check or --replace; give only one of them.")
    if disconnect and learn is not None:
        raise BadSetting("--disconnect cannot be combined with --learn or --no-learn: it undoes both.")
    return ConnectOptions(
        web_address("--label-studio", label_studio),
        project,
        web_address("--backend", backend),
        basic_auth(auth, environ),
        check,
        replace,
        disconnect,
        learn,
    )
