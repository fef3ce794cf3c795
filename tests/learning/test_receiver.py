"""What is stored of set-ups and webhooks; two receivers on one file, as two worker processes have it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.api.webhook_codec import decode_event
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.learning.receiver import LearningReceiver, ProjectSetUp
from server.learning.store import LearningProject, LearningStore
from tests.learning.webhooks import (
    LATE,
    annotation,
    created,
    created_together,
    deleted,
    project,
    start_training,
    tasks_deleted,
)

pytestmark = pytest.mark.anyio
NAME = "7.1795474444"
LEARNS: ProjectSetUp = {"learns": True, "control": "sentiment"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "learned" / "learning.sqlite"


@pytest.fixture
def store(file: Path) -> LearningStore:
    return LearningStore(file)


@pytest.fixture
async def receiver(file: Path) -> AsyncIterator[LearningReceiver]:
    receiver = open_receiver(file)
    yield receiver
    await receiver.close()


def open_receiver(file: Path) -> LearningReceiver:
    return LearningReceiver(LearningStore(file), lambda project: f"{project.model}-1", 1_000)


async def send(receiver: LearningReceiver, body: object) -> str:
    return (await receiver.receive(decode_event(bytearray(json.dumps(body).encode()))))["status"]


async def test_annotations_of_a_project_that_learns_are_stored(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    assert await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True) == LEARNS
    assert store.projects() == [LearningProject(7, "films", NAME, TUTORIAL_CONFIG)]
    assert await send(receiver, created(1, "Positive")) == "stored: 1 new, 0 changed, 0 deleted"
    assert await send(receiver, created(1, "Positive")) == "stored: 0 new, 0 changed, 0 deleted"
    assert await send(receiver, created_together(2, 3)) == "stored: 2 new, 0 changed, 0 deleted"
    changed = created(1, "Negative", updated=LATE) | {"action": "ANNOTATION_UPDATED"}
    assert await send(receiver, changed) == "stored: 0 new, 1 changed, 0 deleted"
    assert await send(receiver, created(1, "Positive")) == "stored: 0 new, 0 changed, 0 deleted"
    assert {each.id: each.labels for each in store.annotations(7)} == {
        1: ("Negative",),
        2: ("Positive",),
        3: ("Positive",),
    }
    assert {each.served for each in store.annotations(7)} == {"films-1"}


async def test_a_later_version_without_a_label_clears_it(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    await send(receiver, created(1, "Positive"))
    await send(receiver, created(1, updated=LATE))
    assert [each.labels for each in store.annotations(7)] == [()]


async def test_what_is_deleted_stays_deleted_whatever_comes_first(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    await send(receiver, created_together(1, 2, 3))
    assert await send(receiver, deleted(1, 9)) == "stored: 0 new, 0 changed, 1 deleted"
    assert await send(receiver, created_together(1, 9)) == "stored: 0 new, 0 changed, 0 deleted"
    assert await send(receiver, tasks_deleted(20, 90)) == "stored: 0 new, 0 changed, 1 deleted"
    assert [each.id for each in store.annotations(7)] == [3]


async def test_training_is_requested(receiver: LearningReceiver, store: LearningStore) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    answer = await receiver.receive(decode_event(bytearray(json.dumps(start_training()).encode())))
    assert answer == {"status": "training of project 7 was requested", "job": "project-7"}
    assert [each.training_requested for each in store.projects()] == [True]
    refused = await receiver.receive(decode_event(bytearray(json.dumps(start_training(8)).encode())))
    assert refused["job"] == "none"
    assert "project 8 does not learn" in refused["status"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, "nothing is learned from this action"),
        ({"action": "PROJECT_UPDATED", "project": project()}, "nothing is learned from this action"),
        ({"action": "ANNOTATION_CREATED"}, "names no project"),
        (created(1, "Positive") | {"project": project(8)}, "project 8 does not learn"),
        (created(1, "Positive") | {"project": project(config="<View/>")}, "ignored: The labeling config"),
        (created(1, "Positive") | {"annotation": None}, "stored: 0 new"),
        (created(1, "Positive") | {"annotation": [[3]], "task": "x"}, "stored: 0 new"),
    ],
)
async def test_other_webhooks_say_why_they_are_ignored(
    receiver: LearningReceiver, store: LearningStore, body: Any, status: str
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    assert status in await send(receiver, body)
    assert store.count(7) == store.count(8) == 0


async def test_without_a_config_in_the_webhook_that_of_the_last_set_up_is_used(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG.replace("$review", "$stars"), requested=True)
    await send(receiver, created(1, "Positive") | {"project": 7})
    await send(receiver, created(2, "Positive"))
    assert [each.text for each in store.annotations(7)] == ["7", "a fine film"]


async def test_nothing_is_stored_of_a_project_that_does_not_ask_for_it(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    assert await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=False) is None
    assert "does not learn" in await send(receiver, created(1, "Positive"))
    assert (store.projects(), store.count(7)) == ([], 0)


async def test_learning_is_switched_off_by_the_backend_that_switched_it_on(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    await receiver.set_up("books", NAME, TUTORIAL_CONFIG, requested=False)
    assert "1 new" in await send(receiver, created(1, "Positive"))
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=False)
    assert "does not learn" in await send(receiver, created(2, "Positive"))
    assert store.count(7) == 1
    assert await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True) == LEARNS
    assert "1 new" in await send(receiver, created(2, "Positive"))


async def test_a_project_that_cannot_learn_knows_why(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    choices = '<Choices name="{}" toName="text"><Choice value="a"/><Choice value="b"/></Choices>'
    config = f'<View><Text name="text" value="$t"/>{choices.format("x")}{choices.format("y")}</View>'
    learning = await receiver.set_up("films", NAME, config, requested=True)
    assert learning is not None
    assert not learning["learns"]
    assert "Name one in the extra parameters" in learning["reason"]
    assert "does not learn" in await send(receiver, created(1, "Positive"))
    assert await receiver.set_up("films", NAME, config, requested="y") == {"learns": True, "control": "y"}
    assert [(each.control, each.learns) for each in store.projects()] == [("y", True)]


@pytest.mark.parametrize("name", [None, 7, "", "films", "7.x", "0.1", "9" * 30, "-7.1"])
async def test_a_project_without_a_number_cannot_learn(receiver: LearningReceiver, name: object) -> None:
    learning = await receiver.set_up("films", name, TUTORIAL_CONFIG, requested=True)
    assert learning is not None
    assert "begins with the project's number" in learning["reason"]
    assert await receiver.set_up("films", name, TUTORIAL_CONFIG, requested=False) is None


async def test_half_a_surrogate_pair_in_a_config_or_in_the_name_of_a_control(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    config = TUTORIAL_CONFIG.replace("<View>", "<View><!-- \ud800 -->")
    for requested in (True, "\ud800"):
        for _ in range(2):
            learning = await receiver.set_up("films", NAME, config, requested)
            assert learning is not None
            assert learning["learns"] is (requested is True)
    assert [each.learns for each in store.projects()] == [False]


async def test_a_forgotten_project_is_known_again_after_its_next_set_up(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    store.forget(7)
    assert "does not learn" in await send(receiver, created(1, "Positive"))
    assert await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True) == LEARNS
    assert "1 new" in await send(receiver, created(1, "Positive"))


async def test_two_receivers_on_one_file(file: Path, store: LearningStore) -> None:
    one, other = open_receiver(file), open_receiver(file)
    await one.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    bodies = [created_together(*range(first, first + 20)) for first in range(1, 200, 10)]
    sent = [send(each, body) for body in bodies for each in (one, other)]
    await asyncio.gather(*sent, *(other.set_up("films", NAME, TUTORIAL_CONFIG, True) for _ in range(20)))
    assert [each.id for each in store.annotations(7)] == [*range(1, 211)]
    await other.set_up("films", NAME, TUTORIAL_CONFIG, requested=False)
    assert "does not learn" in await send(one, created(999, "Positive"))
    await one.close()
    await other.close()


async def test_a_file_that_is_busy_keeps_no_project_from_predicting(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    with store._transaction():
        learning = await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
        assert learning is not None
        assert "busy" in learning["reason"]
    assert await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True) == LEARNS
    assert store.project(7) is not None


async def test_an_update_without_its_task_keeps_nothing_wrong(
    receiver: LearningReceiver, store: LearningStore
) -> None:
    await receiver.set_up("films", NAME, TUTORIAL_CONFIG, requested=True)
    body = {"action": "ANNOTATION_UPDATED", "project": 7, "annotation": annotation(1, "Positive")}
    assert "1 new" in await send(receiver, body)
    assert [each.labels for each in store.annotations(7)] == [()]
