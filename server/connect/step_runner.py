"""A walk through steps that look at Label Studio and change it; each tells what it found, line by line."""

from collections.abc import Callable, Iterator
from typing import Any

from server.connect import desired_state
from server.connect.checklist import Line, aside, fails, holds
from server.connect.desired_state import Row
from server.connect.options import ConnectOptions
from server.errors import LabelStudioRefused, PrelabelError
from server.label_studio.api_client import Api, Method

Step = Callable[[], Iterator[Line]]

LOOK_RETRIES = 1
"""A person is waiting; and a change is never sent twice, for Label Studio may fail after it made it."""


class StepRunner:
    """What is known of the project, filled by the first steps: `project`, its ML backends `rows`, and the
    `row` that the wish names.
    """

    def __init__(self, wish: ConnectOptions, api: Api) -> None:
        self.wish = wish
        self.api = api
        self.project: Row = {}
        self.rows: list[Row] = []
        self.row: Row | None = None

    def may_go_on(self) -> bool:
        """After a step that failed: are there others that do not need it?"""
        return False

    def go(self, steps: list[Step], on_line: Callable[[Line], None]) -> bool:
        """Take the steps in order, ending at one that failed and that the others need. True where nothing
        failed.
        """
        good = True
        for number, step in enumerate(steps, 1):
            failed = False
            for line in self._lines(step):
                on_line(line)
                failed |= line.mark == "✗"
            good &= not failed
            if failed and number < len(steps) and not self.may_go_on():
                on_line(aside("Ended here: the rest needs this."))
                break
        return good

    def _lines(self, step: Step) -> Iterator[Line]:
        try:
            yield from step()
        except PrelabelError as error:
            yield fails(desired_state.in_words(error), desired_state.remedy(error))

    def label_studio(self) -> Iterator[Line]:
        """Does it answer, and take the token?"""
        version = self._look_unless_missing("version")
        who = self._look_unless_missing("current-user/whoami")
        if not (
            isinstance(who, dict) and "email" in who and isinstance(version, dict) and "release" in version
        ):
            yield fails(
                f"{self.api.url} answers, but not as Label Studio.",
                "Correct --label-studio: the address that the browser shows, up to its first path.",
            )
            return
        yield holds(f"Label Studio {version['release']} at {self.api.url} takes the token of {who['email']}.")

    def the_project(self) -> Iterator[Line]:
        if self._look_unless_missing(f"projects/{self.wish.project}") is None:
            remedy = (
                "Take the number from the address that the browser shows in the project: "
                "…/projects/NUMBER/data."
            )
            yield fails(f"There is no project {self.wish.project} that this token may see.", remedy)
            return
        self.reload()
        yield holds(
            f"Project {self.wish.project}, “{self.project['title']}”: "
            f"{self.project['task_number'] or 0:,} tasks."
        )

    def reload(self) -> None:
        """Read the project and its ML backends; Label Studio asks each backend for its state at that."""
        self.project = self.look(f"projects/{self.wish.project}")
        self.rows = self.look("ml", project=self.wish.project)
        self.row = next(
            (row for row in self.rows if desired_state.same_url(row["url"], self.wish.backend)), None
        )

    def webhooks(self) -> list[Row]:
        """The project's own."""
        hooks: list[Row] = self.look("webhooks/", project=self.wish.project)
        return [hook for hook in hooks if hook["project"] == self.wish.project]

    def remove_webhook(self, hook: Row) -> None:
        self.change("DELETE", f"webhooks/{hook['id']}/")

    def look(self, path: str, **params: Any) -> Any:
        return self.api.call("GET", path, params=params, retries=LOOK_RETRIES)

    def _look_unless_missing(self, path: str) -> Any:
        """None for what is not there."""
        try:
            return self.look(path)
        except LabelStudioRefused as error:
            if error.http_status != 404:
                raise
            return None

    def change(self, method: Method, path: str, body: Any = None, **params: Any) -> Any:
        if self.wish.check:
            raise RuntimeError("--check only looks")
        return self.api.call(method, path, params=params, json=body, retries=0)

    def patch_row(self, row: Row, changes: Row) -> Row:
        """Label Studio fails on a change without its URL, and tries the backend with nothing but what the
        change holds.
        """
        kept = {
            name: row[name] for name in ("url", "project", "title", "extra_params") if row[name] is not None
        }
        changed: Row = self.change(
            "PATCH", f"ml/{row['id']}", kept | desired_state.auth_fields(self.wish.auth) | changes
        )
        return changed
