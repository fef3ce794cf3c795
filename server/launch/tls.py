"""HTTPS by the server itself: a certificate and its key, tried before a port is opened."""

import ssl
from pathlib import Path
from typing import Any

from server.errors import BadSetting
from server.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are always on, and older versions off."""


def tls_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's options for TLS, none where no certificate is set. Raises BadSetting for files that cannot be
    served with.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return {}
    for name, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        _check_readable(name, path)
    password = settings.tls_key_password.get_secret_value()
    try:
        # a function, for else a key with a password would ask the terminal for it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, lambda: password
        )
    except (ssl.SSLError, ValueError) as error:
        raise BadSetting(
            f"tls_cert (PRELABEL_TLS_CERT) = {str(settings.tls_cert)!r}: not a certificate in PEM form "
            f"whose key is {str(settings.tls_key)!r}, "
            "with the password of PRELABEL_TLS_KEY_PASSWORD where the key has one "
            f"({getattr(error, 'reason', None) or type(error).__name__})."
        ) from None
    return {
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        "ssl_keyfile_password": password or None,
        "ssl_ciphers": CIPHERS,
    }


def _check_readable(name: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadSetting(
            f"{name} (PRELABEL_{name.upper()}) = {str(path)!r}: cannot be read ({error.strerror})."
        ) from None
