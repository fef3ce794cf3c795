"""The steps of `prelabel connect`. With --check they only look."""

from collections.abc import Iterator
from typing import Any

from server.connect import desired_state, restore_point
from server.connect.backend_probe import SECONDS, SEE_LOG, BackendProblem, is_ml_backend, set_up
from server.connect.checklist import Line, failed, note, passed
from server.connect.desired_state import Row
from server.connect.project import Project
from server.connect.remedies import REACH, is_blocked, is_invalid_url, plain_text
from server.connect.step_runner import Step, StepRunner
from server.errors import PrelabelError
from server.label_studio.ml_backend_client import MlBackendClient

RUN_WITHOUT_CHECK = "Run this without --check."

TEST_SECONDS = 120.0
"""Timeout of the test prediction, for which Label Studio itself waits 100 s."""


class ConnectSteps(StepRunner):
    """`version` is the model version that the backend returned, `learning` what it says of learning;
    `extra_params` are those that the ML backend should have; `replaced` are the URLs of the ML backends
    removed in this run; `in_use` becomes true once the project is known to use the backend.
    """

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.version = ""
        self.learning: Any = None
        self.extra_params: Any = None
        self.replaced: list[str] = []
        self.in_use = False

    def steps(self) -> list[Step]:
        return [
            self.label_studio, self.label_studio_project, self.backend_is_up, self.learns, self.ml_backend,
            self.only_ml_backend, self.live_predictions, self.webhook, self.orphaned_webhooks,
            self.connection_state, self.test_prediction, self.score_column,
        ]  # fmt: skip

    def can_continue(self) -> bool:
        return self.project.backend is not None and (self.options.check or self.in_use)

    def backend(self) -> Row:
        """The ML backend's row. Steps that need it come after the one that adds it."""
        if self.project.backend is None:
            raise LookupError("no ML backend")
        return self.project.backend

    def backend_is_up(self) -> Iterator[Line]:
        """The backend responds to this machine and can serve the project's labeling config."""
        row, data = self.project.backend, self.project.data
        self.extra_params = present = row and row["extra_params"]
        if self.options.learn is not None:
            self.extra_params = desired_state.with_learn(present, True if self.options.learn else None)
        with MlBackendClient(self.options.backend, self.options.auth, SECONDS) as client:
            try:
                found = set_up(
                    client,
                    desired_state.backend_project_name(data),
                    data["label_config"],
                    present if self.options.check else self.extra_params,
                )
            except BackendProblem as problem:
                yield failed(str(problem), problem.remedy)
                return
        self.version, self.learning = found.version, found.learning
        yield passed(
            f"The backend {self.options.backend} serves this labeling config with the model version "
            f"{self.version}."
        )

    def learns(self) -> Iterator[Line]:
        """The backend learns from the project's annotations, if it is to."""
        row = self.project.backend
        present = desired_state.wants_to_learn(row and row["extra_params"])
        wanted = desired_state.wants_to_learn(self.extra_params)
        if wanted and not present and self.options.check:
            yield failed("The project does not ask to learn from its annotations.", RUN_WITHOUT_CHECK)
        elif wanted:
            yield desired_state.learning_line(self.learning, self.options.backend)
        elif present and self.options.check:
            yield failed("The project asks to learn from its annotations.", RUN_WITHOUT_CHECK)
        elif self.options.learn is False:
            yield passed("The project does not ask to learn from its annotations.")

    def ml_backend(self) -> Iterator[Line]:
        """Label Studio has the backend, with the model version as its title."""
        row, backends = self.project.backend, self.project.backends
        is_second = bool(backends) and not self.project.uses_backend()
        if is_second and not self.options.replace and not (row and self.options.check):
            yield failed(
                f"The project uses another ML backend, {backends[0]['url']}, and Label Studio only ever "
                "uses a project's first.",
                "Remove it under Settings → Model, or run this with --replace, which removes it.",
            )
        elif row is None and self.options.check:
            yield failed("The backend is not an ML backend of this project.", RUN_WITHOUT_CHECK)
        elif row is None:
            yield from self._add()
        else:
            yield from self._update(row)

    def _add(self) -> Iterator[Line]:
        fields: dict[str, Any] = {
            "url": self.options.backend,
            "project": self.options.project,
            "title": self.version,
            "description": restore_point.write(
                restore_point.take(self.project.data, self.project.others(), None)
            ),
        }
        if self.extra_params is not None:
            fields["extra_params"] = self.extra_params
        try:
            self.project.change("POST", "ml", fields | desired_state.auth_fields(self.options.auth))
        except PrelabelError as error:
            if not is_blocked(error):
                raise
            # with ML_BLOCK_LOCAL_IP=False alone, Label Studio refuses the address but has saved the ML
            # backend and uses it
            self.project.reload()
            if self.project.backend is None:
                raise
            yield passed(
                f"ML backend {self.project.backend['id']}: added, although Label Studio refused its address."
            )
            return
        self.project.reload()
        if self.project.backend is None:
            yield failed(
                "Label Studio responded, but added nothing.",
                "If its address redirects, as from http to https, changes are lost: give --label-studio the "
                "address that it redirects to.",
            )
        else:
            yield passed(f"ML backend {self.project.backend['id']}: added.")

    def _update(self, row: Row) -> Iterator[Line]:
        changes = desired_state.backend_changes(row, self.version, self.options.auth, self.extra_params)
        as_it_should_be = passed(f"ML backend {row['id']} has the model version as its title.")
        if self.options.check:
            yield (
                failed(f"ML backend {row['id']} needs changes: {_names(changes)}.", RUN_WITHOUT_CHECK)
                if changes
                else as_it_should_be
            )
            return
        earlier = restore_point.read(row["description"])
        if earlier is None and (changes or desired_state.live_changes(self.project.data, self.version)):
            before = {name: row[name] for name in restore_point.FIELDS if name in changes}
            changes["description"] = restore_point.write(
                restore_point.take(self.project.data, self.project.others(), before), row["description"]
            )
        elif earlier is not None and "extra_params" in changes:
            changes["description"] = restore_point.write(
                restore_point.with_extra_params(earlier, row["extra_params"]),
                restore_point.own_text(row["description"]),
            )
        # saving an ML backend that is not connected makes Label Studio connect again, and return its reason
        if changes or row["state"] != "CO":
            self.project.patch_backend(row, changes)
            self.project.reload()
            yield passed(f"ML backend {row['id']}: updated ({_names(changes) or 'saved again'}).")
        else:
            yield as_it_should_be

    def only_ml_backend(self) -> Iterator[Line]:
        """The backend is the project's first; with --replace the only one."""
        if self.options.replace and not self.options.check:
            yield from self._remove_others()
        self.in_use = self.project.uses_backend()
        others = self.project.others()
        if not self.in_use:
            yield failed(
                "The backend is not the project's first ML backend, and Label Studio only ever uses the "
                "first.",
                "Run this with --replace.",
            )
        elif others:
            yield passed("The backend is the project's first ML backend, the one that Label Studio uses.")
            yield note(
                f"Never used: {', '.join(row['url'] for row in others)}. Remove it under Settings → "
                "Model, or run this with --replace."
            )
        else:
            yield passed("The backend is the project's only ML backend.")

    def _remove_others(self) -> Iterator[Line]:
        others = self.project.others()
        for row in others:
            self.project.change("DELETE", f"ml/{row['id']}")
            self.replaced.append(row["url"])
            yield passed(f"ML backend {row['id']}, {row['url']}: removed.")
        if others:
            self.project.reload()

    def live_predictions(self) -> Iterator[Line]:
        """Label Studio asks for a prediction when a task is opened."""
        changes = desired_state.live_changes(self.project.data, self.backend()["title"])
        if changes and self.options.check:
            yield failed(
                f"Live predictions of this model are off: {_names(changes)} in the project.",
                RUN_WITHOUT_CHECK,
            )
            return
        if changes:
            self.project.change("PATCH", f"projects/{self.options.project}", changes)
        yield passed(f"Live predictions of this model are {'now on' if changes else 'on'}.")

    def webhook(self) -> Iterator[Line]:
        """There is one webhook, with the backend's credentials."""
        kept, duplicates = desired_state.split_duplicates(self.project.webhooks(), self.options.backend)
        headers = {hook["id"]: self._headers(hook) for hook in kept}
        outdated = [hook for hook in kept if headers[hook["id"]] != (hook["headers"] or {})]
        learns = desired_state.wants_to_learn(self.backend()["extra_params"])
        partial = learns and bool(kept) and not any(map(desired_state.sends_annotations, kept))
        problems = [
            *(["there is none"] if not kept else []),
            *(["it does not send all annotations"] if partial else []),
            *([f"{len(duplicates)} too many"] if duplicates else []),
            *(["its Authorization header"] if outdated else []),
        ]
        if problems and self.options.check:
            yield failed(f"The webhook needs changes: {', '.join(problems)}.", RUN_WITHOUT_CHECK)
            return
        for hook in duplicates:
            self.project.remove_webhook(hook)
        for hook in [*outdated, *(kept[:1] if partial and kept[0] not in outdated else [])]:
            # without `actions`, Label Studio would clear them
            fields = {"url": hook["url"], "headers": headers[hook["id"]], "actions": hook["actions"]}
            fields |= desired_state.SENDS_ALL if partial and hook is kept[0] else {}
            self.project.change("PATCH", f"webhooks/{hook['id']}/", fields, project=self.options.project)
        if not kept and not self._add_webhook():
            reason = "No webhook: Label Studio accepts no webhook URL whose host has no dot."
            if learns:
                yield failed(reason, "Give --backend a name with a dot, or an IP address: learning needs it.")
            else:
                yield note(f"{reason} Predictions do not need one.")
            return
        repaired = f" (repaired: {', '.join(problems)})" if problems else ""
        yield passed(f"There is one webhook for the backend{repaired}.")

    def _headers(self, hook: Row) -> dict[str, str]:
        return desired_state.webhook_headers(hook["headers"] or {}, self.options.auth, self.backend())

    def _add_webhook(self) -> bool:
        """False if Label Studio accepts no webhook for this host."""
        fields: dict[str, Any] = {
            "project": self.options.project,
            "url": desired_state.webhook_url(self.options.backend),
            "send_payload": True,
            "send_for_all_actions": True,
            "headers": {"Authorization": self.options.auth.header} if self.options.auth else {},
        }
        try:
            self.project.change("POST", "webhooks/", fields)
        except PrelabelError as error:
            if not is_invalid_url(error):
                raise
            return False
        return True

    def orphaned_webhooks(self) -> Iterator[Line]:
        """No webhook is left of an ML backend that was removed: Label Studio would go on calling it."""
        orphans, possible = desired_state.orphaned_webhooks(
            self.project.webhooks(),
            [row["url"] for row in self.project.backends],
            self.options.backend,
            self.replaced,
        )
        for hook in possible:
            # requests go only to a host that the user named, not to one that only Label Studio's data names
            if desired_state.same_host(hook["url"], self.options.backend) and is_ml_backend(
                hook["url"].removesuffix("/webhook")
            ):
                orphans.append(hook)
            else:
                yield note(
                    f"Webhook {hook['url']} may be left over from a removed ML backend. If nothing of yours "
                    "responds there, remove it under Settings → Webhooks."
                )
        for hook in orphans:
            left_over = f"Webhook {hook['url']}, left over from a removed ML backend"
            if self.options.check:
                yield failed(f"{left_over}: still there.", RUN_WITHOUT_CHECK)
            else:
                self.project.remove_webhook(hook)
                yield passed(f"{left_over}: removed.")

    def connection_state(self) -> Iterator[Line]:
        """Label Studio is connected to the backend and sees the same model version."""
        self.project.backend = row = self.project.read(f"ml/{self.backend()['id']}")
        state, seen = row["readable_state"], row["model_version"]
        if row["state"] != "CO":
            reason = plain_text(PrelabelError(row["error_message"] or "it gives no reason"))
            yield failed(
                f"Label Studio's state of the backend is {state}: {reason}",
                f"{RUN_WITHOUT_CHECK} Label Studio then gives its reason." if self.options.check else REACH,
            )
        elif self.version and seen != self.version:
            yield failed(
                f"Label Studio sees the model version {seen}, this command {self.version}.",
                "Two servers respond at this address, or the model has just changed: run this again.",
            )
        else:
            yield passed(f"Label Studio's state of the backend is {state}, model version {seen}.")

    def test_prediction(self) -> Iterator[Line]:
        """Label Studio gets a prediction for one task; it stores nothing of it."""
        backend = self.backend()
        if not self.project.data["task_number"]:
            yield note("No test prediction: the project has no tasks yet.")
            return
        if backend["state"] != "CO":
            yield note("No test prediction: Label Studio is not connected to the backend.")
            return
        try:
            response = self.project.api.call(
                "POST",
                f"ml/{backend['id']}/predict/test",
                params={"random": "true"},
                timeout=TEST_SECONDS,
                retries=0,
            )
        except PrelabelError as error:
            yield failed(f"The test prediction failed: {plain_text(error)}", SEE_LOG)
            return
        yield desired_state.test_verdict(response, self.version or backend["model_version"])

    def score_column(self) -> Iterator[Line]:
        """The Data Manager's score column shows predictions of the project's model version only."""
        self.project.data = self.project.read(f"projects/{self.options.project}")
        in_project, title = self.project.data["model_version"], self.backend()["title"]
        version = self.version or self.backend()["model_version"]
        if in_project == title == version:
            yield passed("The Data Manager's column “Prediction score” shows this model's scores.")
        else:
            names = f"project {in_project!r}, title {title!r}, model {version!r}"
            yield failed(
                f"The column “Prediction score” stays empty: the model versions differ ({names}).",
                RUN_WITHOUT_CHECK if self.options.check else "Run this again.",
            )


def _names(changes: Row) -> str:
    """Names of the fields, never their values: a password may be among them."""
    return ", ".join(name for name in changes if name not in ("description", "auth_method"))
