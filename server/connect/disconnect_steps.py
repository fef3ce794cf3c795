"""The steps of `prelabel connect --disconnect`: takes back what connect made, and nothing else. Predictions
stay.
"""

from collections.abc import Callable, Generator, Iterator

from server.connect import desired_state, restore_point
from server.connect.checklist import Line, aside, holds
from server.connect.desired_state import Row
from server.connect.options import ConnectOptions
from server.connect.step_runner import StepRunner
from server.errors import LabelStudioRefused
from server.label_studio.api_client import Api


def disconnect(wish: ConnectOptions, api: Api, on_line: Callable[[Line], None]) -> bool:
    """True where nothing failed; a second time there is nothing left to do."""
    visit = Disconnecting(wish, api)
    return visit.go([visit.label_studio, visit.the_project, visit.take_back], on_line)


class Disconnecting(StepRunner):
    def take_back(self) -> Iterator[Line]:
        before = restore_point.read(self.row["description"]) if self.row else None
        if self.row is None:
            removed = yield from self._remove_webhooks()
            if not removed:
                yield holds(f"Nothing to undo: {self.wish.backend} is not an ML backend of this project.")
        elif before is None:
            yield holds("Nothing to undo: this ML backend has no note of what was before.")
            yield aside(
                f"ML backend {self.row['id']} stays; remove it under Settings → Model if it is not wanted."
            )
        elif before.made:
            yield from self._remove(self.row, before)
        else:
            yield from self._hand_back(self.row, before)

    def _remove(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        """The ML backend last: it holds the note, which a second try needs."""
        yield from self._restore(row, before)
        yield from self._remove_webhooks()
        self.change("DELETE", f"ml/{row['id']}")
        yield holds(f"ML backend {row['id']}, {row['url']}: removed. Predictions stay.")

    def _hand_back(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        """An ML backend that was there before connect: as it was. Its title first, for the project's model
        version may have been that.
        """
        earlier = {name: value for name, value in before.row.items() if name in restore_point.FIELDS}
        self.patch_row(row, earlier | {"description": restore_point.own_words(row["description"])})
        yield holds(
            f"ML backend {row['id']}, {row['url']}: as it was before; it was not added by connect, so "
            "it stays."
        )
        yield from self._restore(row, before)

    def _restore(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        changes = restore_point.restored(self.project, row["title"], before)
        path = f"projects/{self.wish.project}"
        if not changes:
            yield holds("The project's settings: nothing to restore.")
            return
        try:
            self.change("PATCH", path, changes)
            yield holds("The project's settings are as before.")
        except LabelStudioRefused as error:
            if error.http_status != 400 or not changes.get("model_version"):
                raise
            self.change("PATCH", path, changes | {"model_version": ""})
            yield aside(
                "The project has no model version now: Label Studio does not know "
                f"{changes['model_version']!r} any more, which it was before."
            )

    def _remove_webhooks(self) -> Generator[Line, None, bool]:
        """Those that Label Studio made; were there any?"""
        hooks = [
            hook
            for hook in self.webhooks()
            if desired_state.same_url(hook["url"], desired_state.webhook_url(self.wish.backend))
            and desired_state.as_label_studio_makes(hook)
        ]
        for hook in hooks:
            self.remove_webhook(hook)
            yield holds(f"Webhook {hook['url']}: removed.")
        return bool(hooks)
