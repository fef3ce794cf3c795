"""What to do about an error of Label Studio."""

import re

from server.errors import LabelStudioRefused, PrelabelError

UNBLOCK = (
    "Label Studio 1.23.1 and later block loopback and private addresses. Start Label Studio with "
    "USE_DEFAULT_BANNED_SUBNETS=False in its environment (or with both ML_BLOCK_LOCAL_IP=False and "
    "SSRF_PROTECTION_ENABLED=False), then run this again."
)
REACH = (
    "Label Studio's machine must reach this address. In a container, 127.0.0.1 and localhost are the "
    "container itself: give the name or address that the backend has from there, and start the backend with "
    "--host 0.0.0.0."
)
OTHER_KEY = (
    "Take a token from Label Studio (Account & Settings → Personal Access Token or Legacy Token) and set "
    "LABEL_STUDIO_API_KEY to it."
)


def plain_text(error: PrelabelError) -> str:
    """The message without the HTML tags that Label Studio puts into some, in one line."""
    return " ".join(re.sub(r"<[^>]{1,200}>", "", str(error)).split())


def remedy(error: PrelabelError) -> str:
    message, status = str(error), error.http_status if isinstance(error, LabelStudioRefused) else 0
    if is_blocked(error):
        return UNBLOCK
    if status == 401:
        return OTHER_KEY
    if "Can't resolve hostname" in message or "health check failed" in message:
        return REACH
    if "authentication parameters" in message or "401 Client Error" in message:
        return "Give the backend's user and password: --basic-auth USER:PASSWORD."
    if status == 403:
        return "The token's user must be allowed to change this project."
    if not status:
        return "Start Label Studio, or correct --label-studio."
    return "See Label Studio's log for the reason."


def is_blocked(error: PrelabelError) -> bool:
    """Label Studio refuses private addresses: with 403, or with the same words inside another error."""
    return "reserved network address" in str(error)


def is_invalid_url(error: PrelabelError) -> bool:
    """Label Studio accepts no webhook URL whose host has no dot (except localhost), as containers have."""
    return (
        isinstance(error, LabelStudioRefused)
        and error.http_status == 400
        and "Enter a valid URL" in str(error)
    )
