"""TLS options for uvicorn; checks the certificate and its key before the port opens."""

import ssl
from pathlib import Path
from typing import Any

from server.errors import BadSetting
from server.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Cipher suites for TLS 1.2. Those of TLS 1.3 are always enabled; older versions are disabled."""


def tls_options(settings: Settings) -> dict[str, Any]:
    """TLS options for uvicorn; empty if no certificate is set. Raises BadSetting for unusable files."""
    if settings.tls_cert is None or settings.tls_key is None:
        return {}
    for name, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        _check_readable(name, path)
    password = settings.tls_key_password.get_secret_value()
    try:
        # a function: otherwise OpenSSL asks for the key's password on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, lambda: password
        )
    except (ssl.SSLError, ValueError) as error:
        raise BadSetting(
            f"tls_cert (PRELABEL_TLS_CERT) = {str(settings.tls_cert)!r}: expected a PEM certificate with the "
            f"private key {str(settings.tls_key)!r}, and PRELABEL_TLS_KEY_PASSWORD if the key has a password "
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
