"""A client of Label Studio's API: authorization, retries and addresses come from label-studio-sdk, the
answers stay plain JSON.

The SDK takes legacy tokens and personal access tokens alike (the latter are refreshed), and repeats with
exponential backoff what met a busy server or no connection. Several endpoints that are needed here it does
not name at all, so all go through its transport by their path.
"""

from typing import Any, Literal

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from server.errors import LabelStudioRefused, LabelStudioUnreachable
from server.label_studio.credentials import stays

Method = Literal["GET", "POST", "PATCH", "DELETE"]

RETRIES = 5
"""Repeats of a request that met a busy server (5xx, 429) or no connection: after about 1, 2, 4, 8 and 16 s.
"""

DETAIL_CHARACTERS = 500
"""Maximum characters of Label Studio's own message in an error."""


class Api:
    """`url` of Label Studio and an API token of either kind, which never goes to another server. Raises
    LabelStudioRefused for a token that has expired.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 60.0, retries: int = RETRIES) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        client = httpx.Client(timeout=timeout, follow_redirects=True, event_hooks={"request": [self._stay]})
        try:
            self._sdk = LabelStudio(base_url=self.url, api_key=token, httpx_client=client)  # type: ignore[no-untyped-call]
        except ApiError as error:
            raise LabelStudioRefused(
                f"Label Studio's token is not valid: {_words(error.body)}", error.status_code or 401
            ) from None

    def _stay(self, request: httpx.Request) -> None:
        """Called before each request, those of redirects too, and the one that changes a personal access
        token for another.
        """
        if not stays(self.url, str(request.url)):
            raise LabelStudioRefused(
                f"{self.url} leads on to {request.url.scheme}://{request.url.netloc.decode()}, another "
                "server, which is sent nothing;"
                " if that is your Label Studio, give --label-studio its address.",
                0,
            )

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def call(
        self,
        method: Method,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        json: Any = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Any:
        """The answer's JSON, None for an empty one. `path` such as `projects/7`; `timeout` in seconds.

        Raises LabelStudioRefused with the HTTP status, LabelStudioUnreachable.
        """
        options = RequestOptions(
            max_retries=self._retries if retries is None else retries,
            timeout=self._timeout if timeout is None else timeout,
        )
        try:
            response = self._sdk._client_wrapper.httpx_client.request(  # noqa: SLF001 - the SDK's one way to a path that it does not name
                f"api/{path}", method=method, params=params, json=json, request_options=options
            )
        except ApiError as error:
            raise LabelStudioRefused(
                f"{method} /api/{path}: Label Studio does not take the token: {_words(error.body)}",
                error.status_code or 401,
            ) from None
        except httpx.HTTPError as error:
            raise LabelStudioUnreachable(
                f"{method} {self.url}/api/{path}: no answer ({type(error).__name__}); check the URL and "
                "that Label Studio runs."
            ) from None
        if not response.is_success:
            raise LabelStudioRefused(
                f"{method} /api/{path}: {response.status_code}: {_words(_json(response))}",
                response.status_code,
            )
        return _json(response) if response.content else None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        return {"detail": f"an answer that is not JSON ({kind})"}


def _words(body: Any) -> str:
    """What Label Studio says of an error, in one line."""
    said = body
    if isinstance(body, dict):
        details = body.get("validation_errors") or body.get("detail") or body
        said = (
            "; ".join(f"{field}: {_flat(words)}" for field, words in details.items())
            if isinstance(details, dict)
            else _flat(details)
        )
    return " ".join(str(said).split())[:DETAIL_CHARACTERS]


def _flat(words: Any) -> str:
    return " ".join(map(str, words)) if isinstance(words, list) else str(words)
