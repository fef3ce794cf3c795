"""The command `prelabel learn`: one round by hand, and a project's models: freeze, roll back, look."""

import os
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from export.learning.console import show_round
from export.learning.lock import only_learner
from export.learning.project_predictions import ProjectPredictions
from server.errors import BadSetting
from server.label_studio.api_client import Api
from server.label_studio.credentials import token, web_address
from server.learning.store import STORE, LearningProject, LearningStore
from server.settings import Settings

LOOK = 0.5
"""Seconds between two looks at whether the server's learner has done the round."""


@dataclass(frozen=True)
class LearnOptions:
    """`freeze` and `roll_back` change which model is served, instead of a round."""

    project: int
    freeze: bool = False
    unfreeze: bool = False
    roll_back: bool = False

    def check(self) -> None:
        """Raises BadSetting."""
        if self.freeze + self.unfreeze + self.roll_back > 1:
            raise BadSetting("--freeze, --unfreeze and --rollback exclude each other: give one of them.")


def learn_by_hand(label_studio: str, options: LearnOptions, settings: Settings, console: Console) -> None:
    """Do what the options say, and print it. Raises PrelabelError."""
    options.check()
    settings = settings.model_copy(update={"learn": web_address("--label-studio", label_studio)})
    api = Api(settings.learn, token(os.environ))
    with LearningStore(settings.learn_folder / STORE) as store:
        project = _known(store, options.project, settings)
        if options.freeze or options.unfreeze:
            store.freeze(project.id, options.freeze)
            console.print(
                f"Project {project.id}: its model stays as it is until --unfreeze."
                if options.freeze
                else f"Project {project.id} learns again."
            )
        elif options.roll_back:
            _roll_back(project, store, api, console)
        else:
            report = _round(project, store, api, settings, console)
            show_round(report, store, project.id, Console())


def _known(store: LearningStore, number: int, settings: Settings) -> LearningProject:
    """Raises BadSetting for a project that no server has set up with this folder."""
    project = store.project(number)
    if project is None:
        raise BadSetting(
            f"--project {number}: no server that learns in {settings.learn_folder} knows it; start one with "
            "`prelabel serve --learn URL`, and connect the project with `prelabel connect --learn`."
        )
    return project


def _round(
    project: LearningProject, store: LearningStore, api: Api, settings: Settings, console: Console
) -> dict[str, Any]:
    """By the server's learner, if it runs; else in this process."""
    with only_learner(settings.learn_folder, wait=False) as is_ours, console.status("learning"):
        if is_ours:
            from export.learning.learner import Learner  # takes a second

            learner = Learner(settings, store, api)
            learner.fetch(project)
            return learner.round(store.project(project.id) or project, "requested")
        before = store.decisions(project.id)
        store.request_training(project.id)
        while store.decisions(project.id) == before:
            time.sleep(LOOK)
        (report,) = store.rounds(project.id, 1)
        return report


def _roll_back(project: LearningProject, store: LearningStore, api: Api, console: Console) -> None:
    """Serve the model before, freeze the project, and show Label Studio's predictions of that model again."""
    if not project.served:
        raise BadSetting(f"--rollback: project {project.id} has no learned model.")
    store.serve(project.id, project.previous)
    store.freeze(project.id, frozen=True)
    version = project.previous or f"the model of {project.model}"
    console.print(f"Project {project.id}: {version} serves again; it stays until --unfreeze.")
    predictions = ProjectPredictions(api, project.id)
    if project.previous and (shown := predictions.seen_version(project.previous)):
        predictions.show(shown)
