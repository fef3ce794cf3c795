"""A project whose labels no model has, over HTTP: no predictions, until it has a learned model."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.learning.forget import models_of
from server.learning.store import STORE, LearningStore
from tests.conftest import tiny_network
from tests.serving import running

NAME = "7.1795474444"
LABELS = ("a", "b", "c")
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="kind" toName="text">'
    + "".join(f'<Choice value="{label}"/>' for label in LABELS)
    + "</Choices></View>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learning") / "learned"


@pytest.fixture(scope="module")
def client(bundle: Bundle, folder: Path) -> Iterator[httpx.Client]:
    with running(bundle, learn="http://192.0.2.7:8080", learn_folder=folder) as client:
        yield client


def set_up(client: httpx.Client, name: str = NAME, extra: object = None) -> httpx.Response:
    return client.post("/setup", json={"schema": CONFIG, "project": name, "extra_params": extra})


def predict(client: httpx.Client, tasks: int, name: str = NAME) -> Any:
    body = {
        "tasks": [{"data": {"text": f"text {number}"}} for number in range(tasks)],
        "label_config": CONFIG,
        "project": name,
    }
    return client.post("/predict", json=body)


def test_a_project_gets_no_predictions_until_it_has_a_learned_model(
    client: httpx.Client, bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    assert set_up(client).status_code == 422, "it does not learn"
    answer = set_up(client, extra={"learn": True}).json()
    assert answer["model_version"] == f"{bundle.path.name}-untrained"
    assert answer["learning"] == {"learns": True, "control": "kind"}
    for tasks in (0, 1, 3):
        assert predict(client, tasks).json() == {"results": [{}] * tasks}
    assert predict(client, 1, "8.1").status_code == 422, "another project does not learn"
    (shown,) = [each for each in client.get("/").json()["projects"] if each["project"] == NAME]
    assert "no model has the labels" in shown["config"]

    learned = export_bundle(tiny_network(seed=2, classes=3), tmp_path / "learned", torchscript=False)
    shutil.copytree(learned.path, models_of(folder, 7) / learned.version)
    config = CONFIG
    for label, new in zip(LABELS, learned.labels, strict=True):
        config = config.replace(f'value="{label}"', f'value="{new}"')
    with LearningStore(folder / STORE) as store:
        store.serve(7, learned.version)
    body = {"schema": config, "project": NAME, "extra_params": {"learn": True}}
    while client.post("/setup", json=body).json()["model_version"] != learned.version:
        pass  # the server looks at the store every second
    (result,) = client.post(
        "/predict", json={"tasks": [{"data": {"text": "x"}}], "label_config": config, "project": NAME}
    ).json()["results"]
    assert result["model_version"] == learned.version
    assert result["result"][0]["value"]["choices"][0] in learned.labels
    (project,) = client.get("/").json()["learning"]
    assert (project["project"], project["serves"]) == (NAME, learned.version)
    assert client.get("/health").json()["model_version"] == bundle.version, "the server's own model stays"
