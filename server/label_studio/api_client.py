"""Client of Label Studio's HTTP API, on the transport of label-studio-sdk. Responses are plain JSON.

The SDK accepts legacy tokens and personal access tokens, refreshes the latter, and retries with exponential
backoff. It has no methods for several endpoints that are needed here, so all requests go by their path.
"""

from typing import Any, Literal, Self

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from server.errors import LabelStudioRefused, LabelStudioUnreachable
from server.label_studio.credentials import may_redirect

Method = Literal["GET", "POST", "PATCH", "DELETE"]

RETRIES = 5
"""Retries after a 5xx, a 429 or a failed connection: after about 1, 2, 4, 8 and 16 s."""

DETAIL_CHARACTERS = 500
"""Maximum characters of Label Studio's own message in an error."""


class Api:
    """Label Studio at `url`, with an API token of either kind; the token is sent to no other server.
    `timeout` in seconds. Raises LabelStudioRefused for a token that has expired.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 60.0, retries: int = RETRIES) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._client = client = httpx.Client(
            timeout=timeout, follow_redirects=True, event_hooks={"request": [self._check_server]}
        )
        try:
            self._sdk = LabelStudio(base_url=self.url, api_key=token, httpx_client=client)  # type: ignore[no-untyped-call]
        except ApiError as error:
            raise LabelStudioRefused(
                f"Label Studio's token is not valid: {_detail(error.body)}", error.status_code or 401
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def _check_server(self, request: httpx.Request) -> None:
        """Runs before each request, including redirects and the refresh of a personal access token."""
        if not may_redirect(self.url, str(request.url)):
            other = f"{request.url.scheme}://{request.url.netloc.decode()}"
            raise LabelStudioRefused(
                f"{self.url} redirects to {other}, another server; nothing was sent there. If it is your "
                "Label Studio, give --label-studio its address.",
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
        """The JSON of the response; None if it is empty. `path` such as `projects/7`; `timeout` in seconds.

        Raises LabelStudioRefused with the HTTP status, LabelStudioUnreachable.
        """
        options = RequestOptions(
            max_retries=self._retries if retries is None else retries,
            timeout=self._timeout if timeout is None else timeout,
        )
        try:
            response = self._sdk._client_wrapper.httpx_client.request(  # noqa: SLF001 - the SDK's only way to request a path
                f"api/{path}", method=method, params=params, json=json, request_options=options
            )
        except ApiError as error:
            raise LabelStudioRefused(
                f"{method} /api/{path}: Label Studio does not accept the token: {_detail(error.body)}",
                error.status_code or 401,
            ) from None
        except httpx.HTTPError as error:
            raise LabelStudioUnreachable(
                f"{method} {self.url}/api/{path}: no response ({type(error).__name__}). Check the URL "
                "and that Label Studio runs."
            ) from None
        if not response.is_success:
            raise LabelStudioRefused(
                f"{method} /api/{path}: {response.status_code}: {_detail(_json(response))}",
                response.status_code,
            )
        return _json(response) if response.content else None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        return {"detail": f"a response that is not JSON ({kind})"}


def _detail(body: Any) -> str:
    """Label Studio's error message, in one line."""
    details = body
    if isinstance(body, dict):
        details = body.get("validation_errors") or body.get("detail") or body
    if isinstance(details, dict):
        details = "; ".join(f"{field}: {_joined(messages)}" for field, messages in details.items())
    return " ".join(_joined(details).split())[:DETAIL_CHARACTERS]


def _joined(messages: Any) -> str:
    return " ".join(map(str, messages)) if isinstance(messages, list) else str(messages)
