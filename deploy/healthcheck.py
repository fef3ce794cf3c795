"""The image's HEALTHCHECK: exit status 0 if the server in this container is ready, otherwise 1.

Prints the server's response, which `docker inspect` keeps.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

SHOWN = 2000
"""Maximum bytes of the response to print."""


def get(path: str) -> tuple[int, str]:
    """The status and the body of the response; status 0 and the reason if there is none."""
    scheme = "https" if os.environ.get("PRELABEL_TLS_CERT") else "http"
    # the certificate is for the server's public name, not for 127.0.0.1
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    # the Dockerfile sets the port
    url = f"{scheme}://127.0.0.1:{os.environ['PRELABEL_PORT']}{path}"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=4) as response:
            return int(response.status), response.read(SHOWN).decode("utf-8", "replace")
    except urllib.error.HTTPError as response:
        return response.code, response.read(SHOWN).decode("utf-8", "replace")
    except OSError as error:
        return 0, f"{url} does not answer: {error}"


def main() -> int:
    status, body = get("/ready")
    sys.stdout.write(f"{body}\n")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
