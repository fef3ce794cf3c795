"""Whether the server in this container is ready, as the image's HEALTHCHECK asks: status 0 or 1.

python deploy/healthcheck.py
"""

import os
import ssl
import sys
import urllib.error
import urllib.request


def status(path: str) -> int:
    scheme = "https" if os.environ.get("PRELABEL_TLS_CERT") else "http"
    # the certificate is for the name that others use, not for this address
    trusting = ssl._create_unverified_context()  # noqa: S323, SLF001
    url = f"{scheme}://127.0.0.1:{os.environ.get('PRELABEL_PORT', '9090')}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    try:
        with opener.open(url, timeout=4) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


def main() -> int:
    return 0 if status("/ready") == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
