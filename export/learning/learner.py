"""The learner: looks after all projects that learn, one after the other, in a process of its own.

annotations (webhooks, and Label Studio's API for those missed) ─▶ store ─▶ due? ─▶ round: fit, gate
─▶ accepted: bundle ─▶ the server serves it ─▶ new predictions in Label Studio
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from export.learning.features import FeatureCache
from export.learning.missed_annotations import read_annotations
from export.learning.model_folder import learned_bundle, prune, publish_learned
from export.learning.project_model import ProjectModel, read_base, read_project_model
from export.learning.project_predictions import ProjectPredictions
from export.learning.refresh import new_predictions
from export.learning.round import Round, learn_round
from export.learning.served_model import Served
from server.bundle import Bundle
from server.errors import PrelabelError
from server.label_studio.api_client import Api
from server.label_studio.credentials import BasicAuth
from server.label_studio.labeling_config import read_plan, read_question
from server.label_studio.project_tasks import read_project
from server.learning.annotations import Annotation
from server.learning.events import EventReader
from server.learning.store import LearningProject, LearningStore, now, utc
from server.learning.triggers import Progress, Trigger, due
from server.settings import Settings

log = logging.getLogger(__name__)

FETCH_INTERVAL = 300.0
"""Seconds between two looks for annotations whose webhook was lost."""

GRACE = 20.0
"""Seconds in which Label Studio's API may not list an annotation that its webhook brought: it sends webhooks
before its database has them.
"""


@dataclass
class ProjectState:
    """What the learner knows of a project while it runs. Times are those of `Learner.clock`."""

    fetch_at: float = 0.0
    """When to look for annotations whose webhook was lost."""
    last: str | None = None
    """When its latest annotation was received, by the store, and when the learner saw that."""
    seen: float = 0.0
    learned: int = 0
    """Annotations of the last round, and when that began, by the store."""
    began: str = ""
    features: FeatureCache = field(default_factory=FeatureCache)


@dataclass
class Learner:
    """`wait` sleeps for so many seconds; `clock` returns seconds that never run back."""

    settings: Settings
    store: LearningStore
    api: Api
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _states: dict[int, ProjectState] = field(default_factory=dict)

    def step(self) -> None:
        """Look at each project once. Failures are logged, and tried again later."""
        for project in self.store.projects():
            if project.learns:
                try:
                    self._look_at(project)
                except PrelabelError as error:
                    log.error("project %s: %s", project.name, error)

    def _look_at(self, project: LearningProject) -> None:
        state = self._state(project)
        if self.clock() >= state.fetch_at:
            state.fetch_at = self.clock() + FETCH_INTERVAL  # also after an attempt that fails
            complete = self.fetch(project)
            self._show_served(project)
            if not complete:
                state.fetch_at = self.clock() + GRACE
        trigger = due(self._progress(project, state))
        if trigger is not None:
            self.round(project, trigger)

    def fetch(self, project: LearningProject) -> bool:
        """Store what webhooks missed, and the project's labeling config. False if annotations that were
        received lately are not listed: they are deleted, or not listed yet. Raises PrelabelError.
        """
        since = utc(datetime.now(UTC) - timedelta(seconds=GRACE))
        config = read_project(self.api.get, project.id)["label_config"]
        if config != project.config:
            project = replace(project, config=config)
            self.store.set_up(project)
        question = read_question(config, project.control)
        served = project.served or read_base(project, self.settings).version
        reader = EventReader(question, self.settings.max_text, served)
        listed = read_annotations(self.api.get, project.id, reader)
        found = self.store.reconcile(project.id, listed, since)
        if found.total:
            log.info("project %s: annotations that no webhook brought: %s", project.name, found)
        if self.settings.learn_retention_days:
            self.store.delete_older_than(self.settings.learn_retention_days)
        return {each.id for each in self.store.annotations(project.id)} <= {each.id for each in listed}

    def round(self, project: LearningProject, trigger: Trigger) -> dict[str, Any]:
        """Fit a model, serve it if it is better, and store the report, which it returns. Raises PrelabelError
        if Label Studio cannot store the new predictions: then the model is served all the same.
        """
        state = self._state(project)
        state.began = now()
        self.store.request_training(project.id, requested=False)
        model = read_project_model(project, self.settings, self.settings.learn_folder)
        annotations = self.store.annotations(project.id)
        state.learned = len(annotations)
        self._add_predicted(project, model, annotations)
        result = self._learn(project, model, annotations, state)
        report: dict[str, Any] = {
            "trigger": trigger,
            "decision": result.decision,
            "reason": result.reason,
        } | result.figures
        report |= {"began": state.began, "learned": state.learned}
        if self.store.project(project.id) is None:
            return report  # `prelabel forget` was quicker
        bundle = None
        if result.classifier is not None and result.decision == "accepted":
            if project.frozen:
                report |= {"decision": "frozen", "reason": f"The project is frozen. {result.reason}"}
            else:
                bundle = self._serve(project, result)
                report["version"] = bundle.version
        self.store.add_round(project.id, report)
        log.info("project %s: %s: %s", project.name, report["decision"], report["reason"])
        if bundle is not None:
            self.refresh(project, bundle)
        return report

    def refresh(self, project: LearningProject, bundle: Bundle) -> int:
        """New predictions for the tasks without annotations; returns how many. Raises PrelabelError."""
        predictions = ProjectPredictions(self.api, project.id, self._auth(), self.wait)
        version = predictions.seen_version(bundle.version)
        if version is None:
            log.warning(
                "project %s: Label Studio does not see %s, so it gets no new predictions; connect it with "
                "`prelabel connect --learn`",
                project.name,
                bundle.version,
            )
            return 0
        plan = read_plan(project.config, bundle.labels, self.settings.label_map)
        tasks = predictions.unlabeled_tasks()
        items = new_predictions(tasks, plan, bundle, version, self.settings.order, self.settings.scoring)
        learned = f"{bundle.manifest.name}-"
        stored = predictions.replace(version, items, lambda old: old.startswith(learned))
        log.info("project %s: %d tasks have predictions of %s", project.name, stored, version)
        return stored

    def _show_served(self, project: LearningProject) -> None:
        """Predict again for Label Studio if it was not reached, or this process ended, on the way."""
        served = learned_bundle(self.settings.learn_folder, project.id, project.served)
        if served is None or ProjectPredictions(self.api, project.id).shows(served.version):
            return
        self.refresh(project, served)

    def _learn(
        self,
        project: LearningProject,
        model: ProjectModel,
        annotations: list[Annotation],
        state: ProjectState,
    ) -> Round:
        served = None
        if model.served is not None:
            version = model.served.version
            names = model.names_of(model.served)
            served = Served(version, model.served, names, self.store.out_of_fold(project.id, version))
        return learn_round(
            annotations,
            model.base,
            served,
            state.features,
            several=model.question.answers.several,
            base_names=model.names_of(model.base),
        )

    def _serve(self, project: LearningProject, result: Round) -> Bundle:
        if result.classifier is None:
            raise ValueError("nothing was accepted")
        name = f"{project.model}-p{project.id}"
        folder = self.settings.learn_folder
        bundle = publish_learned(result.classifier, name, folder, project.id)
        self.store.set_out_of_fold(project.id, bundle.version, result.out_of_fold)
        self.store.serve(project.id, bundle.version)
        prune(folder, project.id, {bundle.version, project.served, project.previous})
        return bundle

    def _add_predicted(
        self, project: LearningProject, model: ProjectModel, annotations: list[Annotation]
    ) -> None:
        """Store what the model of their time gives annotations that have no such labels yet."""
        missing: dict[str, list[Annotation]] = {}
        for each in annotations:
            if each.predicted is None and each.labels:
                missing.setdefault(each.served, []).append(each)
        for version, group in missing.items():
            bundle = self._bundle_of(version, project, model)
            if bundle is not None:
                labels = model.labels_of(bundle, [each.text for each in group])
                found = {each.id: given for each, given in zip(group, labels, strict=True)}
                self.store.set_predicted(project.id, found)

    def _bundle_of(self, version: str, project: LearningProject, model: ProjectModel) -> Bundle | None:
        """None where that model predicted nothing in this project, or is gone."""
        if version == model.base.version:
            return model.base if model.base_fits else None
        return learned_bundle(self.settings.learn_folder, project.id, version)

    def _progress(self, project: LearningProject, state: ProjectState) -> Progress:
        last = self.store.last_received(project.id)
        if last != state.last:
            state.last, state.seen = last, self.clock()
        return Progress(
            self.store.changed_since(project.id, state.began),
            state.learned,
            self.clock() - state.seen,
            project.training_requested,
            project.frozen,
        )

    def _state(self, project: LearningProject) -> ProjectState:
        """After a restart, the last round is that of the store."""
        if project.id not in self._states:
            self._states[project.id] = state = ProjectState()
            for report in self.store.rounds(project.id, 1):
                state.began, state.learned = report["began"], report["learned"]
        return self._states[project.id]

    def _auth(self) -> BasicAuth | None:
        password = self.settings.basic_auth_pass.get_secret_value()
        return BasicAuth(self.settings.basic_auth_user, password) if password else None
