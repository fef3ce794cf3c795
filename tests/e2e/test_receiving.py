"""Annotations of a real Label Studio reach a server that learns."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.learning.annotations import Annotation
from server.learning.store import STORE, LearningStore
from tests.e2e.conftest import serving
from tests.e2e.test_connect import connect, create_project, ok, state_of, tasks, url_of

pytestmark = pytest.mark.e2e

SECONDS = 30.0
"""Within which a webhook arrives: Label Studio sends it before or after it answers."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learning") / "learned"


@pytest.fixture(scope="module")
def learning(studio: httpx.Client, bundle: Path, folder: Path) -> Iterator[httpx.Client]:
    """A server that learns."""
    settings = {
        "PRELABEL_LEARN_FOLDER": str(folder),
        "LABEL_STUDIO_API_KEY": studio.headers["Authorization"].removeprefix("Token "),
    }
    options = ("--learn", url_of(studio))
    with serving(bundle, folder.parent / "server.log", *options, settings=settings) as client:
        yield client


@pytest.fixture
def store(learning: httpx.Client, folder: Path) -> Iterator[LearningStore]:
    with LearningStore(folder / STORE) as store:
        yield store


@pytest.fixture
def project(studio: httpx.Client) -> int:
    return create_project(studio)


def region(choice: str) -> dict[str, Any]:
    return {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": [choice]}}


def wait_for(found: Callable[[], object], expected: object) -> None:
    deadline = time.monotonic() + SECONDS
    while found() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found() == expected


def test_what_annotators_do_is_stored(
    studio: httpx.Client, learning: httpx.Client, store: LearningStore, project: int
) -> None:
    status, lines = connect(studio, project, learning, "--learn")
    assert (status, "✓ The backend learns the control sentiment" in lines) == (0, True), lines

    def stored() -> dict[int, tuple[str, ...]]:
        return {each.id: each.labels for each in store.annotations(project)}

    first, second, third = tasks(studio, project)
    made = ok(studio.post(f"/api/tasks/{first['id']}/annotations", json={"result": [region("Positive")]}))
    wait_for(stored, {made["id"]: ("Positive",)})
    (annotation,) = store.annotations(project)
    assert isinstance(annotation, Annotation)
    assert (annotation.task, annotation.text) == (first["id"], first["data"]["review"])
    assert annotation.annotator == made["completed_by"]
    assert annotation.served == learning.get("/health").json()["model_version"]

    ok(studio.patch(f"/api/annotations/{made['id']}", json={"result": [region("Negative")]}))
    wait_for(stored, {made["id"]: ("Negative",)})
    skip = {"result": [], "was_cancelled": True}
    skipped = ok(studio.post(f"/api/tasks/{second['id']}/annotations", json=skip))
    wait_for(stored, {made["id"]: ("Negative",), skipped["id"]: ()})

    actions: dict[str, Any] = {"project": project}
    everything = {"selectedItems": {"all": False, "included": [third["id"]]}}
    for action in ("retrieve_tasks_predictions", "predictions_to_annotations"):
        ok(studio.post("/api/dm/actions", params=actions | {"id": action}, json=everything))
    wait_for(lambda: len(stored()), 3)
    assert {each.task for each in store.annotations(project)} == {
        each["id"] for each in (first, second, third)
    }

    assert studio.delete(f"/api/annotations/{skipped['id']}").is_success
    wait_for(lambda: len(stored()), 2)
    ok(studio.post("/api/dm/actions", params=actions | {"id": "delete_tasks"}, json=everything))
    wait_for(stored, {made["id"]: ("Negative",)})

    [row], _, _ = state_of(studio, project)
    assert studio.post(f"/api/ml/{row['id']}/train").is_success
    wait_for(lambda: [each.training_requested for each in store.projects() if each.id == project], [True])
    assert connect(studio, project, learning, "--disconnect")[0] == 0
    assert state_of(studio, project)[:2] == ([], [])


def test_learning_is_switched_on_and_off(
    studio: httpx.Client, learning: httpx.Client, backend: httpx.Client, store: LearningStore, project: int
) -> None:
    def learns() -> list[bool]:
        return [each.learns for each in store.projects() if each.id == project]

    status, lines = connect(studio, project, backend, "--learn")
    assert (status, "prelabel serve --learn" in lines) == (1, True), lines
    assert state_of(studio, project)[:2] == ([], []), "nothing was changed"

    body = {"url": url_of(learning), "project": project, "extra_params": {"score": "margin"}}
    ok(studio.post("/api/ml", json=body))
    before = state_of(studio, project)[0][0]
    status, lines = connect(studio, project, learning, "--check", "--learn")
    assert (status, "✗ The project does not ask to learn" in lines, learns()) == (1, True, []), lines

    assert connect(studio, project, learning)[0] == 0
    assert connect(studio, project, learning, "--learn")[0] == 0
    [row], [hook], _ = state_of(studio, project)
    assert (row["extra_params"], learns()) == ({"score": "margin", "learn": True}, [True])
    for options in (("--check", "--learn"), ("--check",), ("--learn",), ()):
        status, lines = connect(studio, project, learning, *options)
        assert (status, "✗" in lines, "learns the control sentiment" in lines) == (0, False, True), lines

    partial = {"url": hook["url"], "send_for_all_actions": False, "actions": ["TASKS_CREATED"]}
    ok(studio.patch(f"/api/webhooks/{hook['id']}/", json=partial))
    status, lines = connect(studio, project, learning, "--check")
    assert (status, "it does not send all annotations" in lines) == (1, True), lines
    assert connect(studio, project, learning)[0] == 0
    [hook] = state_of(studio, project)[1]
    assert hook["send_for_all_actions"]

    assert connect(studio, project, learning, "--no-learn")[0] == 0
    assert (state_of(studio, project)[0][0]["extra_params"], learns()) == ({"score": "margin"}, [False])
    assert connect(studio, project, learning, "--learn")[0] == 0
    assert connect(studio, project, learning, "--disconnect")[0] == 0
    row = state_of(studio, project)[0][0]
    assert {name: row[name] for name in ("title", "extra_params", "description")} == {
        "title": before["title"],
        "extra_params": {"score": "margin"},
        "description": before["description"] or "",
    }
    assert learns() == [False]
