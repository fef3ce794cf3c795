"""The complete ML-backend protocol through Label Studio's API: stored predictions, the state of the backend,
and the messages for its user.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.conftest import tiny_network
from tests.e2e.conftest import free_port, label_studio, serving
from tests.e2e.test_label_studio import (
    assert_score_column,
    create_project,
    ok,
    retrieve_predictions,
    stored_answers,
    tasks_of,
)

pytestmark = pytest.mark.e2e

TEXTS = ("A great film.", "An awful film.", "It is a film.")
CHOICES = '<Choice value="Positive"/><Choice value="Negative"/>'

EVERYTHING = f"""<View>
  <View className="left"><Text name="title" value="$film.title"/><Text name="review" value="$review"/></View>
  <HyperText name="page" value="$page"/><Paragraphs name="talk" value="$talk" textKey="says" nameKey="who"/>
  <Choices name="one" toName="review">{CHOICES}</Choices>
  <View visibleWhen="choice-selected">
    <Choices name="some" toName="title" choice="multiple">{CHOICES}</Choices>
  </View>
  <Choices name="alias" toName="page">
    <Choice value="Thumbs up" alias="positive"/><Choice value="Thumbs down" alias="negative"/>
  </Choices>
  <Choices name="said" toName="talk">{CHOICES}</Choices>
  <Choices name="topic" toName="review"><Choice value="Film"/><Choice value="Book"/></Choices>
  <Taxonomy name="tree" toName="review">
    <Choice value="Opinion"><Choice value="Positive"/><Choice value="Negative" alias="neg"/></Choice>
  </Taxonomy>
  <Rating name="stars" toName="review"/>
  <Number name="number" toName="review" min="1" max="5"/>
</View>"""
TASK = {
    "film": {"title": "A great film."},
    "review": ["An awful", "film."],
    "page": "<p>A <b>great</b> film.</p>",
    "talk": [{"who": "A", "says": "It was awful."}, {"who": "B", "says": "Bad."}],
}


@pytest.fixture(scope="module")
def strict_studio(
    tmp_path_factory: pytest.TempPathFactory, studio: httpx.Client, studio_folder: Path
) -> Iterator[httpx.Client]:
    """A Label Studio that rejects predictions that do not exactly fit the labeling config."""
    folder = tmp_path_factory.mktemp("strict") / "data"
    shutil.copytree(studio_folder, folder)
    settings = {
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "False",
        "fflag_feat_utc_210_prediction_validation_15082025": "true",
    }
    token = studio.headers["Authorization"].removeprefix("Token ")
    with label_studio(folder, token, settings) as client:
        yield client


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle with the same labels and other answers."""
    return export_bundle(tiny_network(seed=1), tmp_path_factory.mktemp("other") / "other", torchscript=False)


def project_with(studio: httpx.Client, tasks: list[Any], config: str = TUTORIAL_CONFIG) -> int:
    project = create_project(studio, config)
    ok(studio.post(f"/api/projects/{project}/import", json=tasks))
    return project


def three_tasks(studio: httpx.Client) -> int:
    return project_with(studio, [{"uid": i, "review": text} for i, text in enumerate(TEXTS)])


def add(studio: httpx.Client, project: int, url: str, **fields: Any) -> Any:
    """Connect a backend as the settings page does."""
    return ok(studio.post("/api/ml", json={"url": url, "project": project, **fields}))


def state_of(studio: httpx.Client, backend: int) -> tuple[str, str | None]:
    """Label Studio's state of the backend (CO connected, DI disconnected, ER error) and its message."""
    seen = ok(studio.get(f"/api/ml/{backend}"))
    return seen["state"], seen["error_message"]


def predictions_of(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(studio.get("/api/predictions", params={"project": project}))
    return found


def status_of(backend: httpx.Client, project: int) -> dict[str, Any]:
    """The backend's own status of a project: the latest of this number, since other tests have a Label
    Studio of their own.
    """
    entry: dict[str, Any] = next(
        each for each in ok(backend.get("/"))["projects"] if each["project"].startswith(f"{project}.")
    )
    return entry


def test_the_backend_goes_down_and_comes_back(studio: httpx.Client, bundle: Path, tmp_path: Path) -> None:
    """A restart changes nothing; while it is down nothing is stored and nothing is lost."""
    port = free_port()
    with ExitStack() as first:
        backend = first.enter_context(serving(bundle, tmp_path / "first.log", port=port))
        version = ok(backend.get("/health"))["model_version"]
        project = three_tasks(studio)
        connected = add(studio, project, str(backend.base_url), title=version)
        retrieve_predictions(studio, project)
        found = stored_answers(studio, project)
    assert state_of(studio, connected["id"])[0] == "DI"
    ok(studio.post(f"/api/projects/{project}/import", json=[{"uid": 3, "review": "A late film."}]))
    retrieve_predictions(studio, project)
    assert len(predictions_of(studio, project)) == 3
    with serving(bundle, tmp_path / "second.log", port=port):
        assert state_of(studio, connected["id"])[0] == "CO"
        retrieve_predictions(studio, project)
        again = stored_answers(studio, project)
    assert {uid: again[uid] for uid in found} == found
    assert len(again) == 4
    assert_score_column(studio, project, again)


def test_a_new_version_is_predicted_again_and_a_rollback_adds_nothing(
    studio: httpx.Client, other: Bundle, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "live")
    token = secrets.token_hex(16)
    with serving(
        tmp_path / "live", tmp_path / "server.log", settings={"PRELABEL_ADMIN_TOKEN": token}
    ) as backend:
        admin = {"Authorization": f"Bearer {token}"}
        old = ok(backend.get("/health"))["model_version"]
        project = three_tasks(studio)
        connected = add(studio, project, str(backend.base_url), title=old)
        retrieve_predictions(studio, project)

        shutil.rmtree(tmp_path / "live")
        shutil.copytree(other.path, tmp_path / "live")
        (change,) = ok(backend.post("/admin/reload", headers=admin))["changes"]
        assert (change["before"], change["version"]) == (old, other.version)
        assert ok(studio.get(f"/api/ml/{connected['id']}"))["model_version"] == other.version
        assert ok(studio.get(f"/api/ml/{connected['id']}/versions"))["versions"] == [other.version]
        retrieve_predictions(studio, project)
        versions = [each["model_version"] for each in predictions_of(studio, project)]
        assert sorted(versions) == sorted([old, other.version] * 3)

        ok(backend.post("/admin/rollback", headers=admin))
        retrieve_predictions(studio, project)
        assert len(predictions_of(studio, project)) == 6


def test_an_unusable_config_is_shown_at_the_project(studio: httpx.Client, backend: httpx.Client) -> None:
    wrong = TUTORIAL_CONFIG.replace('"Positive"', '"Great"')
    project = create_project(studio, wrong)
    refused = studio.post("/api/ml", json={"url": str(backend.base_url), "project": project})
    assert (refused.status_code, "422 Client Error" in refused.text) == (400, True)
    entry = status_of(backend, project)
    assert entry["config"].startswith(
        '<Choices name="sentiment"> has no choice for the model\'s label "Positive"'
    )
    assert any(each["project"] == entry["project"] for each in ok(backend.get("/"))["refused_configs"])

    ok(studio.patch(f"/api/projects/{project}", json={"label_config": TUTORIAL_CONFIG}))
    connected = add(studio, project, str(backend.base_url))
    assert status_of(backend, project)["config"] == "sentiment ← text ($review)"
    ok(studio.patch(f"/api/projects/{project}", json={"label_config": wrong}))
    assert state_of(studio, connected["id"])[0] == "ER"
    assert '"Positive"' in status_of(backend, project)["config"]


@pytest.mark.parametrize("server", ["studio", "strict_studio"])
def test_every_kind_of_labeling_config_is_filled(
    request: pytest.FixtureRequest, bundle: Path, server: str, tmp_path: Path
) -> None:
    """The same predictions are stored whether or not Label Studio checks them against the config."""
    studio: httpx.Client = request.getfixturevalue(server)
    with serving(bundle, tmp_path / "server.log", "--map", "Negative=1", "--map", "Positive=5") as backend:
        project = project_with(studio, [TASK, {**TASK, "review": "", "talk": []}], EVERYTHING)
        connected = add(studio, project, str(backend.base_url))
        assert connected["state"] == "CO"
        retrieve_predictions(studio, project)
        stored = {each["task"]: each for each in predictions_of(studio, project)}
    first, second = (stored[task] for task in sorted(stored))
    assert {region["from_name"]: region["value"] for region in first["result"]} == {
        "one": {"choices": ["Negative"]},
        "some": {"choices": ["Positive"]},
        "alias": {"choices": ["positive"]},
        "said": {"choices": ["Negative"]},
        "tree": {"taxonomy": [["Opinion", "neg"]]},
        "stars": {"rating": 1},
        "number": {"number": 1},
    }
    assert 0 < first["score"] < 1
    assert len(second["result"]) == 7


def test_the_strict_label_studio_stores_a_task_without_text_too(
    strict_studio: httpx.Client, backend: httpx.Client
) -> None:
    project = project_with(strict_studio, [{"uid": 0, "review": "A great film."}, {"uid": 1, "review": ""}])
    add(strict_studio, project, str(backend.base_url))
    retrieve_predictions(strict_studio, project)
    assert len(predictions_of(strict_studio, project)) == 2


def test_wrong_credentials_show_label_studios_own_message_and_right_ones_work(
    studio: httpx.Client, bundle: Path, tmp_path: Path
) -> None:
    user, password = "team", secrets.token_hex(8)
    settings = {"PRELABEL_BASIC_AUTH_USER": user, "PRELABEL_BASIC_AUTH_PASS": password}
    with serving(bundle, tmp_path / "server.log", settings=settings) as backend:
        project = three_tasks(studio)
        url, auth = str(backend.base_url), {"auth_method": "BASIC_AUTH", "basic_auth_user": user}
        for wrong in ({}, {**auth, "basic_auth_pass": "no"}):
            refused = studio.post("/api/ml", json={"url": url, "project": project, **wrong})
            assert (
                refused.status_code,
                "authentication parameters were either not provided or are incorrect" in refused.text,
            ) == (400, True)
        backend.auth = (user, password)
        version = ok(backend.get("/health"))["model_version"]
        connected = add(studio, project, url, title=version, **auth, basic_auth_pass=password)
        assert connected["state"] == "CO"
        retrieve_predictions(studio, project)
        assert_score_column(studio, project, stored_answers(studio, project))
        entry = backend.get("/").text
    log = (tmp_path / "server.log").read_text("utf-8")
    for secret in (password, studio.headers["Authorization"].removeprefix("Token "), TEXTS[0]):
        assert secret not in entry + log


def test_the_test_request_and_interactive_pre_annotation(studio: httpx.Client, backend: httpx.Client) -> None:
    project = three_tasks(studio)
    connected = add(
        studio, project, str(backend.base_url), is_interactive=True, extra_params={"any": "object"}
    )
    tested = ok(studio.post(f"/api/ml/{connected['id']}/predict/test", params={"random": "true"}))
    assert tested["response"][0]["result"][0]["type"] == "choices"
    task = tasks_of(studio, project)[0]["id"]
    for context in ({"result": [{"from_name": "sentiment"}]}, None):
        answer = ok(
            studio.post(
                f"/api/ml/{connected['id']}/interactive-annotating", json={"task": task, "context": context}
            )
        )
        assert answer.get("errors") in (None, []), answer
        assert answer["data"]["result"][0]["type"] == "choices"
    assert predictions_of(studio, project) == []


def test_training_is_declined_and_webhooks_never_delay_an_annotator(
    studio: httpx.Client, backend: httpx.Client
) -> None:
    project = three_tasks(studio)
    connected = add(studio, project, str(backend.base_url))
    assert studio.post(f"/api/ml/{connected['id']}/train").is_success
    assert state_of(studio, connected["id"])[0] == "CO"
    task = tasks_of(studio, project)[0]["id"]
    region = {
        "from_name": "sentiment",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": ["Positive"]},
    }
    annotation = ok(studio.post(f"/api/tasks/{task}/annotations", json={"result": [region]}))
    assert studio.delete(f"/api/annotations/{annotation['id']}").is_success
    assert status_of(backend, project)["last_errors"] == []


def test_several_models_behind_a_path_are_backends_of_several_projects(
    studio: httpx.Client, bundle: Path, other: Bundle, tmp_path: Path
) -> None:
    settings = {"PRELABEL_PATH_PREFIX": "/ml"}
    with serving(
        bundle,
        tmp_path / "server.log",
        "--bundle",
        str(other.path),
        "--ensemble",
        f"both={bundle.name},other",
        settings=settings,
    ) as backend:
        versions = {}
        for path in ("/ml", "/ml/other/", "/both"):
            project = three_tasks(studio)
            add(studio, project, f"{str(backend.base_url).rstrip('/')}{path}")
            retrieve_predictions(studio, project)
            (versions[path],) = {version for _, _, version in stored_answers(studio, project).values()}
        assert versions["/ml/other/"] == other.version
        assert versions["/both"].startswith("both-")
        assert len(set(versions.values())) == 3
