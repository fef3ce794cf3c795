"""A project's predictions in Label Studio: those of a new model for all tasks without annotations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.annotate.run import UPLOAD_SECONDS
from server.annotate.task_query import UNLABELED, MissingPredictions
from server.annotate.upload import Item, Uploader
from server.connect.desired_state import auth_fields, live_changes
from server.label_studio.api_client import Api
from server.label_studio.credentials import BasicAuth
from server.label_studio.project_tasks import PAGE, Task, task_pages

MOST_TASKS = 20_000
"""Tasks without annotations that get new predictions; those after them get theirs when they are opened."""

UPLOADED = 2_000
"""Predictions in one request: some seconds of Label Studio's time, in which annotators wait."""

SEEN_PAUSES = (0.5, 1, 2, 4, 8, 16)
"""Seconds between two looks at whether Label Studio sees the new version."""


@dataclass(frozen=True)
class ProjectPredictions:
    """Those of the project `project`. `wait` sleeps for the given seconds. All methods raise
    LabelStudioRefused, LabelStudioUnreachable.
    """

    api: Api
    project: int
    auth: BasicAuth | None = None
    """The server's, which Label Studio needs again with each change of the ML backend."""
    wait: Callable[[float], None] = time.sleep

    def unlabeled_tasks(self) -> list[Task]:
        """`{"id", "data"}` of the tasks without annotations, MOST_TASKS at most."""
        found: list[Task] = []
        # in a review, Label Studio does not ask the server for a prediction of each task that it lists
        pages = task_pages(
            self.api.get, self.project, (UNLABELED,), page_size=PAGE, include="id,data", review="true"
        )
        for _, page in pages:
            found += [{"id": task["id"], "data": task["data"]} for task in page]
            if len(found) >= MOST_TASKS:
                return found[:MOST_TASKS]
        return found

    def seen_version(self, learned: str) -> str | None:
        """The version with which the server answers Label Studio, once it is that of the bundle `learned`,
        which the project's kind of score may follow. None if that does not come.
        """
        for pause in (*SEEN_PAUSES, None):
            rows = self.api.get("ml", project=self.project)  # Label Studio asks the server
            version = str(rows[0]["model_version"]) if rows else ""
            if version == learned or version.startswith(f"{learned}-"):
                return version
            if rows and pause is not None:
                self.wait(pause)
        return None

    def replace(self, version: str, items: Sequence[Item], stale: Callable[[str], bool]) -> int:
        """Store these predictions of `version`, show this version, and delete those of `stale` versions.
        Returns how many were stored. What Label Studio shows is complete at any time.
        """
        missing = MissingPredictions(
            self.api.get, self.project, version, [(UNLABELED,)], self.versions(), review=True
        )
        # an upload that was cut off may have stored some
        left = missing.among([item["task"] for item in items])
        items = [item for item in items if item["task"] in left]
        upload = Uploader(self._post, missing.among, self.wait)
        failed = sum(
            len(upload([*items[begin : begin + UPLOADED]])) for begin in range(0, len(items), UPLOADED)
        )
        self.show(version)
        for old in self.versions():
            if old != version and stale(old):
                path = f"projects/{self.project}/model-versions/"
                self.api.call("DELETE", path, json={"model_version": old}, retries=0)
        self.show(version)  # Label Studio forgets which version it shows when another one is deleted
        return len(items) - failed

    def shows(self, learned: str) -> bool:
        """Whether the project shows the predictions of the bundle `learned`."""
        shown = str(self.api.get(f"projects/{self.project}")["model_version"])
        return shown == learned or shown.startswith(f"{learned}-")

    def show(self, version: str) -> None:
        """Make the score column and the live predictions those of `version`."""
        row = self.api.get("ml", project=self.project)[0]
        if row["title"] != version:
            kept = {name: row[name] for name in ("url", "project", "extra_params") if row[name] is not None}
            changes = kept | auth_fields(self.auth) | {"title": version}
            self.api.call("PATCH", f"ml/{row['id']}", json=changes, retries=0)
        changes = live_changes(self.api.get(f"projects/{self.project}"), version)
        if changes:
            self.api.call("PATCH", f"projects/{self.project}", json=changes, retries=0)

    def versions(self) -> list[str]:
        """The model versions of the project's predictions."""
        return list(self.api.get(f"projects/{self.project}/model-versions/"))

    def _post(self, items: list[Item]) -> int:
        path = f"projects/{self.project}/import/predictions"
        created: int = self.api.call("POST", path, json=items, timeout=UPLOAD_SECONDS, retries=0)["created"]
        return created
