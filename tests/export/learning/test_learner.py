"""The learner: what it does with the annotations of a project, in a Label Studio in memory."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from export.learning.learner import FETCH_INTERVAL, GRACE, Learner
from server.bundle import Bundle, read_bundle
from server.label_studio.api_client import Api
from server.learning.forget import models_of
from server.learning.store import STORE, LearningProject, LearningStore
from server.settings import Settings, load_settings
from tests.export.learning.studio import Studio

CONFIG = (
    '<View><Text name="text" value="$description"/><Choices name="section" toName="text">'
    '<Choice value="games"/><Choice value="mail"/><Choice value="web"/></Choices></View>'
)
WORDS = {
    "games": "chess board player puzzle score level joystick arcade",
    "mail": "inbox smtp letter sender spool header attachment mailbox",
    "web": "browser html server page cookie link style script",
}
OTHERS = [
    "the",
    "a",
    "fast",
    "small",
    "program",
    "with",
    "for",
    "simple",
    "new",
    "tool",
    "library",
    "written",
    "in",
]


def texts(count: int) -> list[tuple[str, str]]:
    """(text, label) of made-up descriptions."""
    choose = random.Random(1)
    found = []
    for number in range(count):
        label = ["games", "mail", "web"][number % 3]
        words = choose.choices(WORDS[label].split(), k=4) + choose.choices(OTHERS, k=4)
        choose.shuffle(words)
        found.append((" ".join([*words, f"n{number}"]), label))
    return found


TEXTS = texts(120)


@pytest.fixture
def settings(bundle: Bundle, tmp_path: Path) -> Settings:
    return load_settings(bundle=(bundle.path,), learn="http://studio:8080", learn_folder=tmp_path / "learned")


@pytest.fixture
def studio() -> Studio:
    return Studio(CONFIG, [text for text, _ in TEXTS])


@pytest.fixture
def store(settings: Settings, bundle: Bundle) -> Iterator[LearningStore]:
    with LearningStore(settings.learn_folder / STORE) as store:
        store.set_up(LearningProject(7, bundle.path.name, "7.1", CONFIG))
        yield store


class Clock:
    """`served_after` waits, the server has loaded what the store says."""

    def __init__(self, studio: Studio, store: LearningStore) -> None:
        self.now = 0.0
        self._studio, self._store = studio, store

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        (project,) = self._store.projects()
        self._studio.served = project.served or "base-untrained"


@pytest.fixture
def clock(studio: Studio, store: LearningStore) -> Clock:
    return Clock(studio, store)


@pytest.fixture
def learner(settings: Settings, store: LearningStore, studio: Studio, clock: Clock) -> Learner:
    return Learner(settings, store, cast("Api", studio), clock.wait, clock)


def annotate(studio: Studio, tasks: range) -> None:
    for task in tasks:
        studio.annotate(task, TEXTS[task - 1][1])


def test_annotations_that_no_webhook_brought_make_a_model_that_is_served_and_shown(
    learner: Learner, store: LearningStore, studio: Studio, settings: Settings
) -> None:
    annotate(studio, range(1, 61))
    learner.step()
    (report,) = store.rounds(7)
    assert (report["trigger"], report["decision"]) == ("new annotations", "accepted"), report["reason"]
    (project,) = store.projects()
    served = read_bundle(models_of(settings.learn_folder, 7) / project.served)
    assert served.version == project.served
    assert set(served.labels) == {"games", "mail", "web"}
    # all tasks without an annotation, each with another rank
    predictions = studio.stored[project.served]
    assert sorted(predictions) == [*range(61, 121)]
    assert len({each["score"] for each in predictions.values()}) == 60
    right = [
        each["result"][0]["value"]["choices"] == [TEXTS[task - 1][1]] for task, each in predictions.items()
    ]
    assert sum(right) >= 50
    assert (studio.title, studio.version) == (project.served, project.served)
    learner.step()
    assert len(store.rounds(7)) == 1, "nothing new"


def test_a_better_model_replaces_the_predictions_of_the_one_before(
    learner: Learner, store: LearningStore, studio: Studio, clock: Clock
) -> None:
    """Label Studio forgets the project's model version when predictions of any version are deleted."""
    annotate(studio, range(1, 31))
    learner.step()
    first = store.projects()[0].served
    annotate(studio, range(31, 101))
    clock.now += FETCH_INTERVAL
    learner.step()
    second = store.projects()[0].served
    assert first
    assert second not in {"", first}, store.rounds(7)[-1]["reason"]
    assert [*studio.stored] == [second]
    assert (studio.title, studio.version) == (second, second)


def test_too_few_annotations_are_waited_for(learner: Learner, store: LearningStore, studio: Studio) -> None:
    annotate(studio, range(1, 8))
    learner.step()
    assert store.rounds(7) == []
    store.request_training(7)
    learner.step()
    (report,) = store.rounds(7)
    assert (report["trigger"], report["decision"]) == ("requested", "waiting")
    (project,) = store.projects()
    assert not project.training_requested
    assert studio.stored == {}


def test_a_quiet_minute_begins_a_round(
    learner: Learner, store: LearningStore, studio: Studio, clock: Clock
) -> None:
    annotate(studio, range(1, 5))
    learner.step()
    clock.now += 61
    learner.step()
    assert [each["trigger"] for each in store.rounds(7)] == ["a quiet minute"]


def test_a_frozen_project_keeps_its_model(learner: Learner, store: LearningStore, studio: Studio) -> None:
    store.freeze(7, frozen=True)
    annotate(studio, range(1, 61))
    learner.step()
    assert store.rounds(7) == []
    store.request_training(7)
    learner.step()
    (report,) = store.rounds(7)
    assert report["decision"] == "frozen"
    assert store.projects()[0].served == ""


def test_edited_and_deleted_annotations_are_fetched_and_a_dead_label_studio_is_waited_for(
    learner: Learner, store: LearningStore, studio: Studio, clock: Clock
) -> None:
    annotate(studio, range(1, 4))
    learner.step()
    studio.is_down = True
    clock.now += FETCH_INTERVAL
    learner.step()
    studio.is_down = False
    studio.annotate(1, "web", updated="2026-01-01T11:00:00Z")
    learner.step()
    assert store.annotations(7)[0].labels != ("web",), "not before the next interval"
    clock.now += FETCH_INTERVAL
    learner.step()
    assert store.annotations(7)[0].labels == ("web",)


def test_a_deletion_that_no_webhook_brought_is_found_once_it_is_sure(
    learner: Learner, store: LearningStore, studio: Studio, clock: Clock
) -> None:
    """Label Studio sends a webhook before its API lists the annotation."""
    annotate(studio, range(1, 4))
    learner.step()
    del studio.annotations[2]
    clock.now += FETCH_INTERVAL
    learner.step()
    assert store.count(7) == 3, "it was received a moment ago"
    store._database.execute("UPDATE annotations SET received = '2026-01-01T10:00:00.000000+00:00'")
    clock.now += GRACE
    learner.step()
    assert [each.id for each in store.annotations(7)] == [1, 3]


def test_what_the_model_had_predicted_is_kept(learner: Learner, store: LearningStore, studio: Studio) -> None:
    annotate(studio, range(1, 61))
    learner.step()
    assert all(each.predicted is None for each in store.annotations(7)), "the base does not have the labels"
    version = store.projects()[0].served
    annotate(studio, range(61, 81))
    learner.fetch(store.projects()[0])
    learner.step()
    found = [each for each in store.annotations(7) if each.served == version]
    assert len(found) == 20
    agreed = [each.predicted == each.labels for each in found]
    assert sum(agreed) >= 15
    assert store.latest_agreement(7, 100) == (sum(agreed), 20)


def test_predictions_that_could_not_be_stored_are_stored_later_and_once(
    learner: Learner, store: LearningStore, studio: Studio, clock: Clock
) -> None:
    annotate(studio, range(1, 61))
    studio.uploads_left = 0
    learner.step()
    (project,) = store.projects()
    assert project.served, "the server has the model all the same"
    assert studio.title == "base-untrained", "what is shown is complete"
    studio.stored[project.served] = {task: {"task": task} for task in range(61, 71)}  # of an earlier attempt
    studio.uploads_left = 100
    clock.now += FETCH_INTERVAL
    learner.step()
    assert sorted(studio.uploaded) == [*range(71, 121)]
    assert (studio.title, studio.version) == (project.served, project.served)


def test_old_models_are_pruned_and_their_predictions_too(
    learner: Learner, store: LearningStore, studio: Studio, settings: Settings
) -> None:
    folder = models_of(settings.learn_folder, 7)
    for number in range(8):
        (folder / f"old-{number}").mkdir(parents=True)
    studio.stored["bundle-p7-old"] = {}
    annotate(studio, range(1, 61))
    learner.step()
    version = store.projects()[0].served
    left = {path.name for path in folder.iterdir()}
    assert version in left
    assert len(left) == 5
