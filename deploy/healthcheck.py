"""Whether the server in this container is ready, as the image's HEALTHCHECK asks: status 0 or 1, and the
server's own words, which `docker inspect` keeps.

python deploy/healthcheck.py
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

SHOWN = 2000
"""Bytes of an answer."""


def ask(path: str) -> tuple[int, str]:
    """The status and what is said; status 0 where nothing answers."""
    scheme = "https" if os.environ.get("PRELABEL_TLS_CERT") else "http"
    # the certificate is for the name that others use, not for this address
    trusting = ssl._create_unverified_context()  # noqa: S323, SLF001
    url = f"{scheme}://127.0.0.1:{os.environ.get('PRELABEL_PORT', '9090')}{path}"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    try:
        with opener.open(url, timeout=4) as answer:
            return int(answer.status), answer.read(SHOWN).decode("utf-8", "replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(SHOWN).decode("utf-8", "replace")
    except OSError as nothing:
        return 0, f"{url} does not answer: {nothing}"


def main() -> int:
    status, said = ask("/ready")
    sys.stdout.write(f"{said}\n")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
