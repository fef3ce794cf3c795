"""The steps of `prelabel connect`, and of `--check`, which takes the same ones and changes nothing."""

from collections.abc import Callable, Iterator

from server.connect import desired_state, restore_point
from server.connect.backend_probe import BackendFails, BackendProbe, answers_like_one
from server.connect.checklist import Line, aside, fails, holds
from server.connect.desired_state import Row
from server.connect.options import ConnectOptions
from server.connect.step_runner import StepRunner
from server.errors import PrelabelError
from server.label_studio.api_client import Api

CHANGE_IT = "Run this without --check."

TEST_SECONDS = 120.0
"""Label Studio waits 100 s for a prediction."""


def connect(wish: ConnectOptions, api: Api, on_line: Callable[[Line], None]) -> bool:
    """Connect the backend, or with `wish.check` see whether it is; True where nothing failed."""
    visit = Connecting(wish, api)
    steps = [
        visit.label_studio, visit.the_project, visit.backend, visit.ml_backend, visit.the_only_one,
        visit.live, visit.webhook, visit.left_overs, visit.state, visit.test_prediction, visit.scores,
    ]  # fmt: skip
    return visit.go(steps, on_line)


class Connecting(StepRunner):
    """`version`: the model version that the backend answers; `replaced`: URLs of ML backends removed in this
    run.
    """

    def __init__(self, wish: ConnectOptions, api: Api) -> None:
        super().__init__(wish, api)
        self.version = ""
        self.replaced: list[str] = []
        self.in_use = False

    def may_go_on(self) -> bool:
        return self.row is not None and (self.wish.check or self.in_use)

    def found(self) -> Row:
        """The ML backend; the steps that ask for it come after the one that adds it."""
        if self.row is None:
            raise LookupError("no ML backend")
        return self.row

    def backend(self) -> Iterator[Line]:
        """Is it up, as seen from here, and what does it say of the labeling config?"""
        with BackendProbe(self.wish.backend, self.wish.auth) as backend:
            try:
                self.version = backend.set_up(
                    desired_state.name_of(self.project),
                    self.project["label_config"],
                    self.row and self.row["extra_params"],
                )
            except BackendFails as failure:
                yield fails(str(failure), failure.remedy)
                return
        yield holds(
            f"The backend {self.wish.backend} serves this labeling config with the model version "
            f"{self.version}."
        )

    def ml_backend(self) -> Iterator[Line]:
        """Label Studio's record of the backend, with the model version as its title."""
        others = [row for row in self.rows if row is not self.row]
        behind = bool(self.rows) and self.rows[0] is not self.row
        if behind and not self.wish.replace and not (self.row and self.wish.check):
            yield fails(
                f"The project uses another ML backend, {self.rows[0]['url']}, and Label Studio only "
                "ever uses a project's first.",
                "Remove it under Settings → Model, or run this with --replace, which removes it.",
            )
        elif self.row is None and self.wish.check:
            yield fails("The backend is not an ML backend of this project.", CHANGE_IT)
        elif self.row is None:
            yield from self._add(others)
        else:
            yield from self._update(self.row, others)

    def _add(self, others: list[Row]) -> Iterator[Line]:
        fields = {
            "url": self.wish.backend,
            "project": self.wish.project,
            "title": self.version,
        } | desired_state.auth_fields(self.wish.auth)
        fields["description"] = restore_point.write(restore_point.before_of(self.project, others, None))
        try:
            self.change("POST", "ml", fields)
        except PrelabelError as error:
            if not desired_state.is_blocked(error):
                raise
            # with ML_BLOCK_LOCAL_IP=False alone Label Studio refuses the address, yet has saved the ML
            # backend and uses it
            self.reload()
            if self.row is None:
                raise
            yield holds(
                f"ML backend {self.row['id']}: Label Studio refused its address and kept it all the same."
            )
            return
        self.reload()
        if self.row is None:
            yield fails(
                "Label Studio answered and added nothing.",
                "Where its address leads on to another, as from http to https, a change is lost: give "
                "--label-studio that other address.",
            )
        else:
            yield holds(f"ML backend {self.row['id']}: added.")

    def _update(self, row: Row, others: list[Row]) -> Iterator[Line]:
        changes = desired_state.row_changes(row, self.version, self.wish.auth)
        if self.wish.check:
            wrong = f"ML backend {row['id']} is not as it should be: {_listed(changes)}."
            yield (
                fails(wrong, CHANGE_IT)
                if changes
                else holds(f"ML backend {row['id']} has the model version as its title.")
            )
            return
        if restore_point.read(row["description"]) is None and (
            changes or desired_state.live_changes(self.project, self.version)
        ):
            earlier = {
                name: value for name, value in row.items() if name in restore_point.FIELDS and name in changes
            }
            changes["description"] = restore_point.write(
                restore_point.before_of(self.project, others, earlier), row["description"]
            )
        # a backend that is not connected is saved again as it is, for then Label Studio tells its reason
        if changes or row["state"] != "CO":
            self.patch_row(row, changes)
            self.reload()
            yield holds(f"ML backend {row['id']}: updated ({_listed(changes) or 'saved again'}).")
        else:
            yield holds(f"ML backend {row['id']} has the model version as its title.")

    def the_only_one(self) -> Iterator[Line]:
        """Label Studio only ever uses a project's first ML backend."""
        others = [row for row in self.rows if row["id"] != self.found()["id"]]
        if self.wish.replace and not self.wish.check:
            for row in others:
                self.change("DELETE", f"ml/{row['id']}")
                self.replaced.append(row["url"])
                yield holds(f"ML backend {row['id']}, {row['url']}: removed.")
            if others:
                self.reload()
                others = []
        self.in_use = bool(self.rows) and self.rows[0]["id"] == self.found()["id"]
        if not self.in_use:
            yield fails(
                "It is not the project's first ML backend, and Label Studio only ever uses the first.",
                "Run this with --replace.",
            )
        elif others:
            yield holds("It is the project's first ML backend, which is the one that Label Studio uses.")
            yield aside(
                f"Never used: {', '.join(row['url'] for row in others)}. Remove it under Settings → "
                "Model, or run this with --replace."
            )
        else:
            yield holds("It is the project's only ML backend.")

    def live(self) -> Iterator[Line]:
        """Are predictions made when a task is opened?"""
        changes = desired_state.live_changes(self.project, self.found()["title"])
        if changes and self.wish.check:
            yield fails(
                f"Live predictions of this model are off: {_listed(changes)} in the project.", CHANGE_IT
            )
            return
        if changes:
            self.change("PATCH", f"projects/{self.wish.project}", changes)
        yield holds(f"Live predictions of this model are on{' now' if changes else ''}.")

    def webhook(self) -> Iterator[Line]:
        """One, with the header for the backend's password, which Label Studio does not send to webhooks."""
        kept, extra = desired_state.split_webhooks(self.webhooks(), self.wish.backend)
        headers = {
            hook["id"]: desired_state.headers_wanted(hook["headers"] or {}, self.wish.auth, self.found())
            for hook in kept
        }
        stale = [hook for hook in kept if headers[hook["id"]] != (hook["headers"] or {})]
        wrong = [
            words
            for words, it_is in (
                ("there is none", not kept),
                (f"{len(extra)} too many", extra),
                ("its Authorization header", stale),
            )
            if it_is
        ]
        if wrong and self.wish.check:
            yield fails(f"The webhook is not as it should be: {', '.join(wrong)}.", CHANGE_IT)
            return
        for hook in extra:
            self.remove_webhook(hook)
        for hook in stale:
            # without its actions Label Studio would forget them
            fields = {"url": hook["url"], "headers": headers[hook["id"]], "actions": hook["actions"]}
            self.change("PATCH", f"webhooks/{hook['id']}/", fields, project=self.wish.project)
        if not kept:
            try:
                self._add_webhook()
            except PrelabelError as error:
                if not desired_state.not_a_web_address(error):
                    raise
                yield aside(
                    "No webhook: Label Studio takes none to a host name without a dot. Predictions do "
                    "not need it."
                )
                return
        repaired = f" (repaired: {', '.join(wrong)})" if wrong else ""
        yield holds(f"The webhook is there, once{repaired}.")

    def _add_webhook(self) -> None:
        headers = {"Authorization": self.wish.auth.header} if self.wish.auth else {}
        shape = {"send_payload": True, "send_for_all_actions": True, "headers": headers}
        self.change(
            "POST",
            "webhooks/",
            {"project": self.wish.project, "url": desired_state.webhook_url(self.wish.backend)} | shape,
        )

    def left_overs(self) -> Iterator[Line]:
        """Label Studio keeps the webhook of an ML backend that was removed, and goes on calling it."""
        gone, perhaps = desired_state.left_over(
            self.webhooks(), [row["url"] for row in self.rows], self.wish.backend, self.replaced
        )
        # nothing is asked on a host that only Label Studio's data names
        asked = [hook for hook in perhaps if desired_state.same_host(hook["url"], self.wish.backend)]
        gone += [hook for hook in asked if answers_like_one(hook["url"].removesuffix("/webhook"))]
        for hook in perhaps:
            if hook not in gone:
                yield aside(
                    f"Webhook {hook['url']} may be left over from an ML backend that is gone; if "
                    "nothing of yours answers there,"
                    " remove it under Settings → Webhooks."
                )
        for hook in gone:
            if self.wish.check:
                yield fails(f"Webhook {hook['url']} is left over from an ML backend that is gone.", CHANGE_IT)
            else:
                self.remove_webhook(hook)
                yield holds(f"Webhook {hook['url']}, left over from an ML backend that is gone: removed.")

    def state(self) -> Iterator[Line]:
        """What does Label Studio see?"""
        self.row = row = self.look(f"ml/{self.found()['id']}")
        if row["state"] != "CO":
            said = desired_state.in_words(PrelabelError(row["error_message"] or "it does not say why"))
            remedy = (
                f"{CHANGE_IT} Then Label Studio tells its reason." if self.wish.check else desired_state.REACH
            )
            yield fails(f"Label Studio's state of the backend is {row['readable_state']}: {said}", remedy)
        elif self.version and row["model_version"] != self.version:
            found = (
                f"Label Studio sees the model version {row['model_version']}, this command {self.version}."
            )
            yield fails(found, "Two servers answer at this address, or it has just changed: run this again.")
        else:
            yield holds(
                f"Label Studio sees it: {row['readable_state']}, model version {row['model_version']}."
            )

    def test_prediction(self) -> Iterator[Line]:
        """One task through Label Studio; nothing of it is stored."""
        if not self.project["task_number"]:
            yield aside("No test prediction: the project has no tasks yet.")
            return
        if self.found()["state"] != "CO":
            yield aside("No test prediction: Label Studio is not connected to the backend.")
            return
        try:
            answer = self.api.call(
                "POST",
                f"ml/{self.found()['id']}/predict/test",
                params={"random": "true"},
                timeout=TEST_SECONDS,
                retries=0,
            )
        except PrelabelError as error:
            yield fails(
                f"The test prediction failed: {desired_state.in_words(error)}", "The backend's log says more."
            )
            return
        yield desired_state.test_verdict(answer, self.version or self.found()["model_version"])

    def scores(self) -> Iterator[Line]:
        """The Data Manager's score column shows predictions of the project's model version only."""
        self.project = self.look(f"projects/{self.wish.project}")
        title, version = self.found()["title"], self.version or self.found()["model_version"]
        if self.project["model_version"] == title == version:
            yield holds("The Data Manager's column “Prediction score” shows this model's scores.")
        else:
            names = f"project {self.project['model_version']!r}, title {title!r}, model {version!r}"
            yield fails(
                f"The column “Prediction score” stays empty: the model versions differ ({names}).",
                CHANGE_IT if self.wish.check else "Run this again.",
            )


def _listed(changes: Row) -> str:
    """Names of fields, never their values: a password may be among them."""
    return ", ".join(name for name in changes if name not in ("description", "auth_method"))
