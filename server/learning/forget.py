"""`prelabel forget`: deletes what was learned from a project."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.errors import BadInput
from server.learning.store import STORE, LearningStore


@dataclass(frozen=True)
class Kept:
    """What is kept of a project: annotations, reports of rounds, and learned models."""

    annotations: int
    rounds: int
    models: int
    learns: bool

    def __str__(self) -> str:
        counts = (self.annotations, "annotation"), (self.rounds, "round"), (self.models, "model")
        return ", ".join(f"{count:,} {thing}{'' if count == 1 else 's'}" for count, thing in counts)


def models_of(folder: Path, project: int) -> Path:
    """The folder of the models learned for a project."""
    return folder / "models" / f"p{project}"


def forget_project(
    folder: Path, project: int, confirm: Callable[[str], bool], say: Callable[[str], None]
) -> None:
    """Delete all that `folder` has of a project, if `confirm` returns true for the question. Raises BadInput
    if there is nothing to delete, or it cannot be deleted.
    """
    file = folder / STORE
    if not file.is_file():
        raise BadInput(f"{file} does not exist; give the folder of the server with --folder.")
    models = models_of(folder, project)
    with LearningStore(file) as store:
        kept = _kept(store, project, models)
        if kept is None:
            known = ", ".join(str(each.id) for each in store.projects()) or "none"
            raise BadInput(f"--project {project}: nothing is kept of it; the projects are: {known}.")
        if not confirm(f"Delete {kept} of project {project}?"):
            say("Nothing was deleted.")
            return
        store.forget(project)
        _delete(models)
    say(f"Deleted {kept} of project {project}.")
    if kept.learns:
        say(
            "The project still asks to learn: its annotations are kept again after the next set-up, unless "
            f"prelabel connect --project {project} --no-learn ends that."
        )


def _kept(store: LearningStore, project: int, models: Path) -> Kept | None:
    """None if nothing is known of the project."""
    set_up = store.project(project)
    counts = store.count(project), store.count_rounds(project), _bundles(models)
    if set_up is None and not any(counts) and store.last_received(project) is None and not models.exists():
        return None
    return Kept(*counts, learns=set_up is not None and set_up.learns)


def _bundles(models: Path) -> int:
    return sum(1 for _ in models.glob("*/manifest.json"))


def _delete(models: Path) -> None:
    try:
        if models.exists():
            shutil.rmtree(models)
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"{models}: cannot be deleted ({reason}); delete it yourself.") from None
