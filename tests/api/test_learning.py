"""Set-ups and webhooks of projects that learn, through a real uvicorn."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.learning.store import STORE, LearningStore
from server.transport.admission import WEBHOOKS
from tests.learning.webhooks import created, created_together, deleted, project, start_training
from tests.ports import PLAIN_HTTP
from tests.serving import predict, running, set_up

NAME = "7.1795474444"
LEARN = {"learn": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learning") / "learned"


@pytest.fixture(scope="module")
def client(bundle: Bundle, folder: Path) -> Iterator[httpx.Client]:
    with running(bundle, **settings(folder)) as client:
        yield client


@pytest.fixture
def store(client: httpx.Client, folder: Path) -> Iterator[LearningStore]:
    with LearningStore(folder / STORE) as store:
        store.forget(7)
        yield store


def settings(folder: Path) -> dict[str, Any]:
    return {"learn": "http://192.0.2.7:8080", "learn_folder": folder}


def status(client: httpx.Client, body: object, path: str = "") -> str:
    answer = client.post(f"{path}/webhook", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


def learning_of(client: httpx.Client, name: str = NAME) -> Any:
    """What GET / says about a project."""
    (found,) = [each["learning"] for each in client.get("/").json()["projects"] if each["project"] == name]
    return found


def test_a_project_that_asks_for_it_learns(
    client: httpx.Client, bundle: Bundle, store: LearningStore
) -> None:
    learns = {"learns": True, "control": "sentiment"}
    for extra in (LEARN, json.dumps(LEARN), {"learn": "sentiment", "score": "confidence"}):
        answer = set_up(client, project=NAME, extra=extra).json()
        assert answer == {"model_version": bundle.version, "learning": learns}
    assert learning_of(client) == "sentiment"
    assert status(client, created(1, "Positive")) == "stored: 1 new, 0 changed, 0 deleted"
    assert status(client, created_together(2, 3), f"/{bundle.path.name}").startswith("stored: 2 new")
    assert status(client, deleted(3)) == "stored: 0 new, 0 changed, 1 deleted"
    assert [each.served for each in store.annotations(7)] == [bundle.version] * 2
    assert [each.model for each in store.projects()] == [bundle.path.name]
    assert predict(client, ["good"], project=NAME)[0]["result"]


def test_training_is_requested(client: httpx.Client, store: LearningStore) -> None:
    set_up(client, project=NAME, extra=LEARN)
    answer = client.post("/webhook", json=start_training()).json()
    assert answer == {"status": "training of project 7 was requested", "job": "project-7"}
    assert [each.training_requested for each in store.projects()] == [True]


def test_other_projects_do_not_learn(client: httpx.Client, bundle: Bundle, store: LearningStore) -> None:
    for extra in (None, "text", {"learn": False}, {"learn": None}):
        assert set_up(client, project=NAME, extra=extra).json() == {"model_version": bundle.version}
    assert learning_of(client) is None
    assert "project 7 does not learn" in status(client, created(1, "Positive"))
    assert store.count(7) == 0


@pytest.mark.parametrize("learn", [1, "", " ", ["sentiment"], {"control": "x"}])
def test_learn_of_a_wrong_type_is_an_error(client: httpx.Client, learn: object) -> None:
    answer = set_up(client, project=NAME, extra={"learn": learn})
    assert answer.status_code == 400
    assert "extra_params: learn: expected true, false or the name of a control" in answer.text


def test_a_control_that_is_not_there_is_said_where_people_look(
    client: httpx.Client, store: LearningStore
) -> None:
    answer = set_up(client, project=NAME, extra={"learn": "mood"}).json()
    assert answer["learning"]["learns"] is False
    assert "no control 'mood'" in answer["learning"]["reason"]
    assert learning_of(client) == answer["learning"]["reason"]
    assert "does not learn" in status(client, created(1, "Positive"))


def test_a_batch_of_the_maximum_size_is_stored(client: httpx.Client, store: LearningStore) -> None:
    set_up(client, project=NAME, extra=LEARN)
    body = created_together(*range(1, 5_001), text="a fine film " * 150)
    assert len(json.dumps(body)) > 10_000_000
    assert status(client, body) == "stored: 5000 new, 0 changed, 0 deleted"
    assert status(client, body) == "stored: 0 new, 0 changed, 0 deleted"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"x", 400),
        (b"", 400),
        (b"[]", 400),
        (b'{"action": "ANNOTATION_CREATED", "annotation": [{}, {}', 400),
        (b'{"action": "' + b"x" * 200_000, 400),
        (b'{"annotation": [{"id": ' + b"1" * 200_000 + b"x}]}", 200),
        (b'{"action": "x"}', 200),
        (b'{"action": NaN}', 200),
        (b'{"action": "START_TRAINING", "project": 1e999}', 200),
        (b'{"action": "START_TRAINING", "project": {"id": ' + b"9" * 5_000 + b"}}", 200),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 413),
        (b'{"annotation": [' + b"[]," * 60_000 + b"[]]}", 200),
        (b'{"action": "x", "tasks": [' + b'{"id": 1},' * 60_000 + b"{}]}", 200),
    ],
)
def test_odd_bodies(client: httpx.Client, body: bytes, code: int) -> None:
    answer = client.post("/webhook", content=body)
    assert answer.status_code == code, answer.text
    assert isinstance(answer.json()["status" if code == 200 else "detail"], str)


def test_while_the_file_is_busy_webhooks_wait_up_to_a_number_and_predictions_do_not(
    client: httpx.Client, store: LearningStore
) -> None:
    set_up(client, project=NAME, extra=LEARN)
    refused = threading.Event()

    def send(number: int) -> int:
        with httpx.Client(base_url=client.base_url, timeout=60, verify=PLAIN_HTTP) as own:
            status = own.post("/webhook", json=created(number, "Positive")).status_code
        if status == 429:
            refused.set()
        return status

    with ThreadPoolExecutor(WEBHOOKS + 2) as pool:
        with store._transaction():
            sent = [pool.submit(send, number) for number in range(1, WEBHOOKS + 3)]
            assert refused.wait(60)
            assert predict(client, ["good"], project=NAME)[0]["result"]
            assert "busy" in set_up(client, project=NAME, extra=LEARN).json()["learning"]["reason"]
        statuses = [each.result() for each in sent]
    assert {*statuses} == {200, 429}
    assert store.count(7) == statuses.count(200) >= WEBHOOKS
    counted = re.search(
        r'requests_total{[^}]*route="/webhook"[^}]*status="429"[^}]*} (\S+)', client.get("/metrics").text
    )
    assert counted is not None
    assert float(counted[1]) == statuses.count(429)


def test_a_body_that_is_too_large_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with running(bundle, max_body_bytes=2_000, **settings(tmp_path)) as client:
        answer = client.post("/webhook", json=created_together(*range(10)))
        assert (answer.status_code, "a fixed limit for /webhook" in answer.text) == (413, True)


def test_no_text_and_no_token_is_logged(
    client: httpx.Client, store: LearningStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        set_up(client, project=NAME, extra=LEARN)
        status(client, created(1, "Positive", text="very private"))
        status(client, created(2, "Positive", text="very private") | {"project": project(8)})
        client.post("/webhook", content=json.dumps(created(3, text="very private"))[:-2])
    for word in ("very private", "a token of the project", "a secret"):
        assert word not in caplog.text


def test_a_server_that_does_not_learn_says_so(bundle: Bundle) -> None:
    with running(bundle) as client:
        assert set_up(client, project=NAME).json() == {"model_version": bundle.version}
        learning = set_up(client, project=NAME, extra=LEARN).json()["learning"]
        assert (learning["learns"], "prelabel serve --learn" in learning["reason"]) == (False, True)
        assert learning_of(client) == learning["reason"]
        assert status(client, created(1, "Positive")) == "ignored"
        assert client.post("/webhook", json=start_training()).json()["job"] == "none"
        assert set_up(client, project=NAME, extra={"learn": 3}).status_code == 400


def test_a_restart_keeps_what_was_received(bundle: Bundle, tmp_path: Path) -> None:
    for _ in range(2):
        with running(bundle, **settings(tmp_path)) as client:
            set_up(client, project=NAME, extra=LEARN, config=TUTORIAL_CONFIG)
            status(client, created(1, "Positive"))
    with LearningStore(tmp_path / STORE) as store:
        assert store.count(7) == 1
