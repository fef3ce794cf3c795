"""`prelabel connect` against a real Label Studio; every outcome is read back through Label Studio's own
API.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.e2e.conftest import label_studio, serving

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]

Result = tuple[int, str]
"""Exit status and checklist."""


@pytest.fixture(scope="module")
def second(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Another server, with another model version."""
    with serving(bundle, tmp_path_factory.mktemp("second") / "server.log", "--score", "margin") as client:
        yield client


@pytest.fixture
def project(studio: httpx.Client) -> int:
    """A new project with three tasks, none of which is predicted."""
    return create_project(studio)


def test_connect(studio: httpx.Client, backend: httpx.Client, project: int) -> None:
    """One command, and opening a task shows a prediction, and the score column is filled."""
    version = version_of(backend)

    status, lines = connect(studio, project, backend)

    assert (status, "✗" in lines) == (0, False), lines
    assert "Test prediction for task" in lines
    [row], [hook], settings = state_of(studio, project)
    assert (row["state"], row["title"], row["model_version"]) == ("CO", version, version)
    assert (hook["url"], hook["headers"]) == (f"{url_of(backend)}/webhook", {})
    assert settings == {"show_collab_predictions": True, "model_version": version}
    assert predictions(studio, project) == [], "the test prediction is not stored"

    opened = ok(studio.get(f"/api/tasks/{tasks(studio, project)[0]['id']}"))
    assert [prediction["model_version"] for prediction in opened["predictions"]] == [version]
    everything = {"selectedItems": {"all": True, "excluded": []}}
    ok(
        studio.post(
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json=everything,
        )
    )
    assert len(predictions(studio, project)) == 3
    assert all(task["predictions_score"] is not None for task in tasks(studio, project))


def test_a_second_run_changes_nothing_and_check_never_does(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    new = everything_in(studio, project)
    status, lines = connect(studio, project, backend, "--check")
    assert (status, "✗ The backend is not an ML backend" in lines) == (1, True), lines
    assert everything_in(studio, project) == new

    assert connect(studio, project, backend)[0] == 0
    connected = everything_in(studio, project)
    for options in ((), ("--check",), ("--replace",)):
        status, lines = connect(studio, project, backend, *options)
        assert (status, "✗" in lines) == (0, False), lines
        assert everything_in(studio, project) == connected


def test_check_names_what_is_wrong_and_connect_repairs_it(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    assert connect(studio, project, backend)[0] == 0
    [row], [hook], _ = state_of(studio, project)
    ok(studio.patch(f"/api/ml/{row['id']}", json={"url": row["url"], "project": project, "title": "default"}))
    ok(studio.patch(f"/api/projects/{project}", json={"show_collab_predictions": False}))
    ok(studio.patch(f"/api/webhooks/{hook['id']}/", json={"headers": {"Authorization": "Basic b2xk"}}))
    for url in (hook["url"], hook["url"]):
        ok(studio.post("/api/webhooks/", json={"project": project, "url": url}))
    wrong = everything_in(studio, project)

    status, lines = connect(studio, project, backend, "--check")

    assert status == 1
    for words in (
        "title",
        "show_collab_predictions, model_version",
        "2 too many",
        "Authorization header",
        "stays empty",
    ):
        assert words in lines
    assert lines.count("✗") == lines.count("→") == 4
    assert everything_in(studio, project) == wrong

    assert connect(studio, project, backend)[0] == 0
    assert connect(studio, project, backend, "--check")[0] == 0
    [row], [hook], settings = state_of(studio, project)
    assert row["title"] == settings["model_version"] == version_of(backend)
    assert hook["headers"] == {}


def test_a_webhook_keeps_its_actions_when_its_header_is_repaired(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    """Label Studio forgets a webhook's actions on a change that does not repeat them."""
    headers = {"Authorization": "Basic b2xk", "X-Own": "1"}
    own = {
        "project": project,
        "url": f"{url_of(backend)}/webhook",
        "send_for_all_actions": False,
        "actions": ["TASKS_CREATED"],
        "headers": headers,
    }
    ok(studio.post("/api/webhooks/", json=own))
    assert connect(studio, project, backend)[0] == 0
    [hook] = state_of(studio, project)[1]
    assert (hook["actions"], hook["headers"]) == (["TASKS_CREATED"], {"X-Own": "1"})


def test_left_over_webhooks(
    studio: httpx.Client, backend: httpx.Client, second: httpx.Client, project: int
) -> None:
    """Label Studio keeps the webhook of a removed ML backend. Removed are those that surely are one; the
    user's own stay.
    """
    row = ok(studio.post("/api/ml", json={"url": url_of(second), "project": project}))
    studio.delete(f"/api/ml/{row['id']}")
    older, unknown, own = (
        f"{url_of(backend)}/older/webhook",
        "http://127.0.0.1:9/webhook",
        f"{url_of(backend)}/own/webhook",
    )
    for url in (older, unknown):
        ok(studio.post("/api/webhooks/", json={"project": project, "url": url}))
    ok(
        studio.post(
            "/api/webhooks/",
            json={
                "project": project,
                "url": own,
                "send_for_all_actions": False,
                "actions": ["TASKS_CREATED"],
            },
        )
    )

    status, lines = connect(studio, project, backend)

    assert status == 0, lines
    assert f"{url_of(second)}/webhook, left over" in lines
    assert f"{older}, left over" in lines
    assert f"– Webhook {unknown} may be left over" in lines
    assert {hook["url"] for hook in state_of(studio, project)[1]} == {
        unknown,
        own,
        f"{url_of(backend)}/webhook",
    }


def test_another_ml_backend_goes_first_until_it_is_replaced(
    studio: httpx.Client, backend: httpx.Client, second: httpx.Client, project: int
) -> None:
    assert connect(studio, project, backend)[0] == 0
    before = everything_in(studio, project)

    status, lines = connect(studio, project, second)
    assert (
        status,
        f"✗ The project uses another ML backend, {url_of(backend)}" in lines,
        "--replace" in lines,
    ) == (1, True, True), lines
    assert everything_in(studio, project) == before

    # one that was added behind it by hand is not used either
    ok(studio.post("/api/ml", json={"url": url_of(second), "project": project}))
    status, lines = connect(studio, project, second, "--check")
    assert (status, "✗ The backend is not the project's first ML backend" in lines) == (1, True), lines
    status, lines = connect(studio, project, backend)
    assert (status, f"– Never used: {url_of(second)}" in lines) == (0, True), lines

    status, lines = connect(studio, project, second, "--replace")
    assert status == 0, lines
    [row], [hook], settings = state_of(studio, project)
    assert (row["url"], hook["url"]) == (url_of(second), f"{url_of(second)}/webhook")
    assert (
        row["title"]
        == row["model_version"]
        == settings["model_version"]
        == version_of(second)
        != version_of(backend)
    )
    opened = ok(studio.get(f"/api/tasks/{tasks(studio, project)[0]['id']}"))
    assert [prediction["model_version"] for prediction in opened["predictions"]] == [version_of(second)]


@pytest.mark.parametrize(
    "settings",
    [
        {"show_collab_predictions": False, "model_version": ""},
        {"show_collab_predictions": True, "model_version": "earlier"},
    ],
)
def test_disconnect_restores_what_was(
    studio: httpx.Client, backend: httpx.Client, second: httpx.Client, project: int, settings: dict[str, Any]
) -> None:
    """Also over a replacement: what was before the first connect."""
    task = tasks(studio, project)[0]["id"]
    ok(studio.post("/api/predictions", json={"task": task, "model_version": "earlier", "result": []}))
    ok(studio.patch(f"/api/projects/{project}", json=settings))
    before = state_of(studio, project)
    assert before == ([], [], settings)
    assert connect(studio, project, backend)[0] == 0
    assert connect(studio, project, second, "--replace")[0] == 0
    assert state_of(studio, project)[2]["model_version"] == version_of(second)

    status, lines = connect(studio, project, second, "--disconnect")

    assert (status, "✗" in lines) == (0, False), lines
    assert state_of(studio, project) == before
    assert len(predictions(studio, project)) == 1
    for other in (second, backend):
        status, lines = connect(studio, project, other, "--disconnect")
        assert (status, "✓ Nothing to undo" in lines) == (0, True), lines
    assert state_of(studio, project) == before


def test_disconnect_hands_back_an_ml_backend_that_was_there(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    """Added by hand, as the tutorial does: connect gives it its title, and takes only that back."""
    added = ok(
        studio.post(
            "/api/ml", json={"url": f"{url_of(backend)}/", "project": project, "description": "Ours."}
        )
    )
    before = state_of(studio, project)
    assert before[2] == {"show_collab_predictions": True, "model_version": "default"}
    status, lines = connect(studio, project, backend, "--disconnect")
    assert (status, "– ML backend" in lines) == (0, True), lines
    assert without_times(state_of(studio, project)[0]) == without_times([added])

    assert connect(studio, project, backend)[0] == 0
    [row], _, settings = state_of(studio, project)
    assert (row["id"], row["title"], settings["model_version"]) == (
        added["id"],
        version_of(backend),
        version_of(backend),
    )
    assert row["description"].startswith("Ours.\n")

    assert connect(studio, project, backend, "--disconnect")[0] == 0
    [row], hooks, settings = state_of(studio, project)
    assert (row["id"], row["title"], row["description"], settings) == (
        added["id"],
        "default",
        "Ours.",
        before[2],
    )
    assert hooks == before[1]


def test_disconnect_after_replacing_an_ml_backend_of_another_kind(
    studio: httpx.Client, backend: httpx.Client, second: httpx.Client, project: int
) -> None:
    """The model version from before was the title of what is gone, so there is none."""
    ok(studio.post("/api/ml", json={"url": url_of(backend), "project": project}))
    assert connect(studio, project, second, "--replace")[0] == 0
    status, lines = connect(studio, project, second, "--disconnect")
    assert (status, "✗" in lines, "'default'" in lines) == (0, False, True), lines
    assert state_of(studio, project) == ([], [], {"show_collab_predictions": True, "model_version": ""})


def test_disconnect_restores_settings_of_an_ml_backend_that_was_right(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    """Only the project's settings were changed; the note of them is kept all the same."""
    ok(studio.patch(f"/api/projects/{project}", json={"show_collab_predictions": False}))
    ok(
        studio.post(
            "/api/ml", json={"url": url_of(backend), "project": project, "title": version_of(backend)}
        )
    )
    before = everything_in(studio, project)
    assert connect(studio, project, backend)[0] == 0
    assert state_of(studio, project)[2] == {
        "show_collab_predictions": True,
        "model_version": version_of(backend),
    }
    assert connect(studio, project, backend, "--disconnect")[0] == 0
    assert everything_in(studio, project) == before


def test_disconnect_leaves_what_was_chosen_since(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    ok(
        studio.post(
            "/api/predictions",
            json={"task": tasks(studio, project)[0]["id"], "model_version": "chosen", "result": []},
        )
    )
    assert connect(studio, project, backend)[0] == 0
    ok(studio.patch(f"/api/projects/{project}", json={"model_version": "chosen"}))
    assert connect(studio, project, backend, "--disconnect")[0] == 0
    assert state_of(studio, project) == ([], [], {"show_collab_predictions": True, "model_version": "chosen"})


def test_a_labeling_config_that_the_model_cannot_answer(studio: httpx.Client, backend: httpx.Client) -> None:
    """Label Studio would only say "422 Client Error"; the backend says why."""
    project = create_project(studio, TUTORIAL_CONFIG.replace('value="Negative"', 'value="Bad"'))
    before = everything_in(studio, project)
    status, lines = connect(studio, project, backend)
    detail = backend.post(
        "/setup", json={"schema": ok(studio.get(f"/api/projects/{project}"))["label_config"]}
    ).json()["detail"]
    assert (status, detail in lines, "Labeling Interface" in lines) == (1, True, True), lines
    assert everything_in(studio, project) == before


def test_a_project_without_tasks_or_text(studio: httpx.Client, backend: httpx.Client) -> None:
    project = create_project(studio, texts=())
    status, lines = connect(studio, project, backend)
    assert (status, "– No test prediction" in lines) == (0, True), lines
    ok(studio.post(f"/api/projects/{project}/import", json=[{"review": [None]}]))
    status, lines = connect(studio, project, backend)
    assert (status, "is empty: the task has no text" in lines) == (0, True), lines


def test_a_backend_that_is_down(studio: httpx.Client, bundle: Path, project: int, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "server.log") as short:
        assert connect(studio, project, short)[0] == 0
    before = state_of(studio, project)
    assert before[0][0]["state"] == "DI"

    status, lines = connect(studio, project, short)
    assert (status, "✗ The backend" in lines, "prelabel serve" in lines) == (1, True, True), lines
    status, lines = connect(studio, project, short, "--check")
    assert (status, "is Disconnected" in lines, "✓ Live predictions" in lines) == (1, True, True), lines
    assert without_times(state_of(studio, project)[0]) == without_times(before[0])

    status, lines = connect(studio, project, short, "--disconnect")
    assert (status, state_of(studio, project)[:2]) == (0, ([], [])), lines


def test_a_backend_with_a_password(studio: httpx.Client, bundle: Path, project: int, tmp_path: Path) -> None:
    """Label Studio is given it, and the webhook a header with it, for Label Studio sends webhooks without. It
    is shown nowhere.
    """
    settings = {"PRELABEL_BASIC_AUTH_USER": "label-studio", "PRELABEL_BASIC_AUTH_PASS": "s3cret:s3cret"}
    right = ("--basic-auth", "label-studio:s3cret:s3cret")
    with serving(bundle, tmp_path / "server.log", settings=settings) as closed:
        status, lines = connect(studio, project, closed)
        assert (status, "✗ The backend requires a user and a password." in lines) == (1, True), lines
        status, lines = connect(studio, project, closed, "--basic-auth", "label-studio:wrong")
        assert (status, "✗ The backend does not accept this user and password." in lines) == (1, True), lines
        assert state_of(studio, project)[:2] == ([], [])

        status, lines = connect(studio, project, closed, *right)
        assert (status, "✓ Test prediction" in lines, "s3cret" in lines) == (0, True, False), lines
        connected = everything_in(studio, project)
        [row], [hook], _ = state_of(studio, project)
        header = httpx.BasicAuth("label-studio", "s3cret:s3cret")._auth_header
        assert (row["state"], row["auth_method"], hook["headers"]) == (
            "CO",
            "BASIC_AUTH",
            {"Authorization": header},
        )
        assert "s3cret" not in row["description"]
        assert connect(studio, project, closed, *right)[0] == 0
        assert everything_in(studio, project) == connected

        # what a change of the password leaves behind
        fields = {"url": row["url"], "project": project, "title": row["title"]}
        changed = {
            "basic_auth_user": "label-studio",
            "basic_auth_pass": "s3cret:s3cret",
            "auth_method": "NONE",
        }
        ok(studio.patch(f"/api/ml/{row['id']}", json=fields | changed))
        ok(studio.patch(f"/api/webhooks/{hook['id']}/", json={"headers": {}}))
        status, lines = connect(studio, project, closed, "--check", *right)
        assert (status, "Authorization header" in lines, "basic_auth_user" in lines) == (1, True, True), lines
        assert connect(studio, project, closed, *right)[0] == 0
        [row], [hook], _ = state_of(studio, project)
        assert (row["auth_method"], hook["headers"]) == ("BASIC_AUTH", {"Authorization": header})

        assert connect(studio, project, closed, "--disconnect")[0] == 0
        assert state_of(studio, project)[:2] == ([], [])


def test_a_backend_behind_a_path(studio: httpx.Client, bundle: Path, project: int, tmp_path: Path) -> None:
    """One of several models of a server: its path stays in the webhook's address, and the server's other
    addresses stay apart.
    """
    with serving(bundle, tmp_path / "server.log", settings={"PRELABEL_PATH_PREFIX": "/ml"}) as server:
        status, lines = connect(studio, project, f"{url_of(server)}/ml/")
        assert status == 0, lines
        [row], [hook], _ = state_of(studio, project)
        assert (row["url"], hook["url"]) == (f"{url_of(server)}/ml", f"{url_of(server)}/ml/webhook")
        status, lines = connect(studio, project, f"{url_of(server)}/nowhere")
        assert (status, "responds, but not as an ML backend" in lines) == (1, True), lines


def test_a_host_name_without_a_dot_gets_no_webhook(
    studio: httpx.Client, backend: httpx.Client, project: int
) -> None:
    """As in a network of containers: Label Studio connects and makes no webhook, without a word."""
    name = socket.gethostname()
    if "." in name or name == "localhost" or resolved(name) != "127.0.0.1":
        pytest.skip("this machine's name is not a dotless name of 127.0.0.1")
    status, lines = connect(studio, project, f"http://{name}:{backend.base_url.port}")
    assert (status, "– No webhook" in lines) == (0, True), lines
    assert [len(part) for part in state_of(studio, project)[:2]] == [1, 0]


def test_tokens(studio: httpx.Client, backend: httpx.Client, project: int) -> None:
    """Label Studio's two kinds, and a wrong one; none is ever shown."""
    ok(studio.post("/api/jwt/settings", json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}))
    personal = ok(studio.post("/api/token/"))["token"]
    status, lines = connect(studio, project, backend, token=personal)
    assert (status, personal in lines) == (0, False), lines
    status, lines = connect(studio, project, backend, token="0" * 40)
    assert (status, "401: Invalid token." in lines, "LABEL_STUDIO_API_KEY" in lines, "0" * 40 in lines) == (
        1,
        True,
        True,
        False,
    ), lines
    status, lines = connect(studio, 999_999, backend)
    assert (status, "There is no project 999999" in lines) == (1, True), lines
    status, lines = connect(backend, project, backend, token=personal[:20])
    assert (status, "not as Label Studio" in lines) == (1, True), lines


@pytest.mark.parametrize(
    ("settings", "saved"),
    [({}, False), ({"LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "False"}, True)],
    ids=["defaults", "ML_BLOCK_LOCAL_IP"],
)
def test_blocked_addresses(
    studio: httpx.Client,
    studio_folder: Path,
    backend: httpx.Client,
    project: int,
    tmp_path: Path,
    settings: dict[str, str],
    *,
    saved: bool,
) -> None:
    """A Label Studio with its defaults blocks this machine; with half of the settings it connects, refuses
    the webhook and says that it did neither.
    """
    assert connect(studio, project, backend)[0] == 0
    token = studio.headers["Authorization"].removeprefix("Token ")
    shutil.copytree(studio_folder, tmp_path / "studio")
    with label_studio(tmp_path / "studio", token, settings) as strict:
        new = create_project(strict)
        for _ in range(2):
            status, lines = connect(strict, new, backend)
            assert (
                status,
                "reserved network address" in lines,
                "USE_DEFAULT_BANNED_SUBNETS=False" in lines,
            ) == (1, True, True), lines
            rows, hooks, _ = state_of(strict, new)
            assert [(row["state"], row["title"]) for row in rows] == (
                [("CO", version_of(backend))] if saved else []
            )
            assert hooks == []
            assert ("✓ Test prediction" in lines, lines.count("✗")) == (saved, 1)

        # one that was connected before Label Studio was updated
        status, lines = connect(strict, project, backend)
        assert (status, "USE_DEFAULT_BANNED_SUBNETS=False" in lines) == (
            (0, False) if saved else (1, True)
        ), lines
        assert connect(strict, project, backend, "--disconnect")[0] == 0
        assert state_of(strict, project)[:2] == ([], [])


def connect(
    studio: httpx.Client, project: int, backend: httpx.Client | str, *options: str, token: str | None = None
) -> Result:
    url = backend if isinstance(backend, str) else url_of(backend)
    command = [
        sys.executable,
        "prelabel.py",
        "connect",
        "--label-studio",
        url_of(studio),
        "--project",
        str(project),
        "--backend",
        url,
        *options,
    ]
    key = token or studio.headers["Authorization"].removeprefix("Token ")
    environ = os.environ | {"LABEL_STUDIO_API_KEY": key, "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr == "", done.stderr
    assert key not in done.stdout
    return done.returncode, done.stdout


def create_project(
    studio: httpx.Client,
    config: str = TUTORIAL_CONFIG,
    texts: tuple[str, ...] = ("A great film.", "An awful film.", "A film."),
) -> int:
    project: int = ok(studio.post("/api/projects", json={"title": "Connect", "label_config": config}))["id"]
    if texts:
        ok(studio.post(f"/api/projects/{project}/import", json=[{"review": text} for text in texts]))
    return project


def state_of(studio: httpx.Client, project: int) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """ML backends, webhooks, and the settings of the project that connect may change."""
    rows = ok(studio.get("/api/ml", params={"project": project}))
    hooks = [hook for hook in ok(studio.get("/api/webhooks/")) if hook["project"] == project]
    settings = ok(studio.get(f"/api/projects/{project}"))
    return rows, hooks, {name: settings[name] for name in ("show_collab_predictions", "model_version")}


def everything_in(studio: httpx.Client, project: int) -> Any:
    """All of the project, its ML backends, its webhooks. Label Studio touches an ML backend's `updated_at`
    whenever it is looked at.
    """
    rows, hooks, _ = state_of(studio, project)
    return (
        without_times(rows),
        hooks,
        ok(studio.get(f"/api/projects/{project}")),
        predictions(studio, project),
    )


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "updated_at"} for row in rows]


def tasks(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(studio.get("/api/tasks", params={"project": project, "fields": "all"}))[
        "tasks"
    ]
    return found


def predictions(studio: httpx.Client, project: int) -> list[Any]:
    found: list[Any] = ok(studio.get("/api/predictions", params={"project": project}))
    return found


def version_of(backend: httpx.Client) -> str:
    version: str = ok(backend.get("/health"))["model_version"]
    return version


def url_of(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def resolved(name: str) -> str | None:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return None


def ok(response: httpx.Response) -> Any:
    """The answer's JSON; Label Studio's own words when it refused."""
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    )
    return response.json()
