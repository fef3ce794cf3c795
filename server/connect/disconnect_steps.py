"""The steps of `prelabel connect --disconnect`: undo what connect changed, and nothing else. Predictions
stay.
"""

from collections.abc import Generator, Iterator

from server.connect import desired_state, restore_point
from server.connect.checklist import Line, note, passed
from server.connect.desired_state import Row
from server.connect.step_runner import Step, StepRunner
from server.errors import LabelStudioRefused
from server.label_studio.extra_params import read_params


class DisconnectSteps(StepRunner):
    """Safe to run again: a second run finds nothing left to undo."""

    def steps(self) -> list[Step]:
        return [self.label_studio, self.label_studio_project, self.undo]

    def undo(self) -> Iterator[Line]:
        """Remove the ML backend that connect added, or restore the fields of the one that it changed."""
        row = self.project.backend
        before = restore_point.read(row["description"]) if row else None
        if row is None:
            removed = yield from self._remove_webhooks()
            if not removed:
                yield passed(f"Nothing to undo: {self.options.backend} is not an ML backend of this project.")
        elif before is None:
            yield passed("Nothing to undo: this ML backend's description holds no settings from before.")
            yield note(
                f"ML backend {row['id']} stays; remove it under Settings → Model if you do not want it."
            )
        elif before.made:
            yield from self._remove(row, before)
        else:
            yield from self._restore_backend(row, before)

    def _remove(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        """The ML backend goes last: it holds the restore point, which a second try needs."""
        yield from self._restore_project(row, before)
        yield from self._remove_webhooks()
        self.project.change("DELETE", f"ml/{row['id']}")
        yield passed(f"ML backend {row['id']}, {row['url']}: removed. Predictions stay.")

    def _restore_backend(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        """Restore an ML backend that existed before connect: its title first, because the project's model
        version may have been that title.
        """
        fields = {name: value for name, value in before.row.items() if name in restore_point.FIELDS}
        if "extra_params" in fields:  # others of these may have been changed since
            learn = read_params(fields["extra_params"]).get("learn")
            fields["extra_params"] = desired_state.with_learn(row["extra_params"], learn)
        own_text = restore_point.own_text(row["description"])
        self.project.patch_backend(row, fields | {"description": own_text})
        yield passed(
            f"ML backend {row['id']}, {row['url']}: restored; it stays, because connect did not add it."
        )
        yield from self._restore_project(row, before)

    def _restore_project(self, row: Row, before: restore_point.RestorePoint) -> Iterator[Line]:
        changes = restore_point.project_changes(self.project.data, row["title"], before)
        path = f"projects/{self.options.project}"
        if not changes:
            yield passed("The project's settings: nothing to restore.")
            return
        try:
            self.project.change("PATCH", path, changes)
            yield passed("The project's settings are restored.")
        except LabelStudioRefused as error:
            if error.http_status != 400 or not changes.get("model_version"):
                raise
            self.project.change("PATCH", path, changes | {"model_version": ""})
            yield note(
                f"The project now has no model version: the former one, {changes['model_version']!r}, "
                "no longer exists in Label Studio."
            )

    def _remove_webhooks(self) -> Generator[Line, None, bool]:
        """Remove the backend's webhooks that Label Studio made; returns whether there were any."""
        hooks = [
            hook
            for hook in self.project.webhooks()
            if desired_state.same_url(hook["url"], desired_state.webhook_url(self.options.backend))
            and desired_state.made_by_label_studio(hook)
        ]
        for hook in hooks:
            self.project.remove_webhook(hook)
            yield passed(f"Webhook {hook['url']}: removed.")
        return bool(hooks)
