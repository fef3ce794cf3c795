"""One project in Label Studio with its ML backends and webhooks: reads and changes them through the API."""

from typing import Any

from server.connect.desired_state import Row, auth_fields, same_url
from server.connect.options import ConnectOptions
from server.errors import LabelStudioRefused
from server.label_studio.api_client import Api, Method

READ_RETRIES = 1
"""Few, because the user waits. A change is never retried: Label Studio may fail after it has made it."""


class Project:
    """The project and the ML backend that the options name, as of the last `reload`.

    `data` is the project, `backends` are its ML backends, the one in use first, and `backend` is the one at
    the options' URL, if any. Methods raise LabelStudioRefused and LabelStudioUnreachable.
    """

    def __init__(self, options: ConnectOptions, api: Api) -> None:
        self.options = options
        self.api = api
        self.data: Row = {}
        self.backends: list[Row] = []
        self.backend: Row | None = None

    def reload(self) -> None:
        """Read the project and its ML backends. Label Studio then asks each backend for its state."""
        self.data = self.read(f"projects/{self.options.project}")
        self.backends = self.read("ml", project=self.options.project)
        self.backend = next(
            (row for row in self.backends if same_url(row["url"], self.options.backend)), None
        )

    def others(self) -> list[Row]:
        """The project's other ML backends."""
        return [row for row in self.backends if self.backend is None or row["id"] != self.backend["id"]]

    def uses_backend(self) -> bool:
        """Label Studio only ever uses a project's first ML backend."""
        return self.backend is not None and self.backends[0]["id"] == self.backend["id"]

    def webhooks(self) -> list[Row]:
        """The project's webhooks; the API also lists those of the organization."""
        hooks: list[Row] = self.read("webhooks/", project=self.options.project)
        return [hook for hook in hooks if hook["project"] == self.options.project]

    def remove_webhook(self, hook: Row) -> None:
        self.change("DELETE", f"webhooks/{hook['id']}/")

    def patch_backend(self, row: Row, changes: Row) -> None:
        """Change an ML backend. Label Studio fails on a change without the URL, and connects to the backend
        with nothing but the fields of the change.
        """
        kept = {
            name: row[name] for name in ("url", "project", "title", "extra_params") if row[name] is not None
        }
        self.change("PATCH", f"ml/{row['id']}", kept | auth_fields(self.options.auth) | changes)

    def read(self, path: str, **params: Any) -> Any:
        return self.api.call("GET", path, params=params, retries=READ_RETRIES)

    def read_if_present(self, path: str) -> Any:
        """None for HTTP 404."""
        try:
            return self.read(path)
        except LabelStudioRefused as error:
            if error.http_status != 404:
                raise
            return None

    def change(self, method: Method, path: str, body: Any = None, **params: Any) -> None:
        if self.options.check:
            raise RuntimeError("--check must not change anything")
        self.api.call(method, path, params=params, json=body, retries=0)
