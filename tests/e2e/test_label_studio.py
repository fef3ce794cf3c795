"""What a user of Label Studio gets: live predictions from the ML backend, and pre-annotated imports.

Every outcome is read back through Label Studio's own API.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from server.label_studio.credentials import KEY_VARIABLE
from server.label_studio.exported_labels import Reason
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.offline.labelled import LabelledSource, open_labelled, read_labelled
from server.offline.labelled_source import LabelledOptions, labelled_source

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6
"""Largest difference between scores of the same text."""

Answer = tuple[str, float, str]
"""Class, score, model version."""


def test_live_predictions(
    studio: httpx.Client, backend: httpx.Client, bundle: Path, tutorial: Path, tmp_path: Path
) -> None:
    """As in the tutorial: upload reviews, connect the backend, retrieve predictions for all tasks."""
    reviews = tutorial / "IMDB_train_unlabeled_100.csv"
    config = (tutorial / "labeling_interface.xml").read_text("utf-8")
    version = ok(backend.get("/health"))["model_version"]
    project = create_project(studio, config)
    assert upload(studio, project, reviews)["task_count"] == 98
    connected = ok(
        studio.post("/api/ml", json={"url": str(backend.base_url), "project": project, "title": version})
    )
    assert (connected["state"], connected["model_version"]) == ("CO", version)

    retrieve_predictions(studio, project)

    found = stored_answers(studio, project)
    assert len(found) == 98
    assert {model_version for _, _, model_version in found.values()} == {version}
    assert_same(found, direct_answers(backend, reviews, config))
    assert_same(found, file_answers(prelabel_predict(reviews, tmp_path / "tasks.json", bundle)))
    assert_score_column(studio, project, found)

    retrieve_predictions(studio, project)
    assert_same(stored_answers(studio, project), found)
    assert_sorted_by_score(studio, project, found)


def test_a_projects_own_score(studio: httpx.Client, backend: httpx.Client) -> None:
    """`extra_params` of a project's ML backend choose its score; its predictions have their own version and
    fill its score column.
    """
    version = f"{ok(backend.get('/health'))['model_version']}-margin"
    project = create_project(studio, TUTORIAL_CONFIG)
    tasks = [
        {"uid": i, "review": text}
        for i, text in enumerate(("A great film.", "An awful film.", "It is a film."))
    ]
    ok(studio.post(f"/api/projects/{project}/import", json=tasks))
    backend_settings = {
        "url": str(backend.base_url),
        "project": project,
        "title": version,
        "extra_params": '{"score": "margin"}',
    }
    assert ok(studio.post("/api/ml", json=backend_settings))["model_version"] == version

    retrieve_predictions(studio, project)

    found = stored_answers(studio, project)
    body = {"tasks": [{"data": task} for task in tasks], "label_config": TUTORIAL_CONFIG}
    default = [answer_of(result) for result in ok(backend.post("/predict", json=body))["results"]]
    assert_same(
        found,
        {str(i): (choice, 2 * confidence - 1, version) for i, (choice, confidence, _) in enumerate(default)},
    )
    assert_score_column(studio, project, found)


def test_preannotated_import(studio: httpx.Client, bundle: Path, tutorial: Path, tmp_path: Path) -> None:
    """`prelabel predict` writes a file that Label Studio imports with every prediction and score."""
    written = prelabel_predict(tutorial / "IMDB_train_labeled_100.csv", tmp_path / "tasks.json", bundle)
    project = create_project(studio, TUTORIAL_CONFIG)

    assert upload(studio, project, written)["task_count"] == 100

    found = stored_answers(studio, project)
    assert len(found) == 100
    assert_same(found, file_answers(written))
    assert_score_column(studio, project, found)


def test_an_annotated_project_is_learned_from(
    studio: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of annotators are read from Label Studio's own exports, and through its API."""
    project = create_project(studio, TUTORIAL_CONFIG)
    texts = ("A great film.", "An awful film.", "It is a film.", "No viewers came to this one.")
    ok(
        studio.post(
            f"/api/projects/{project}/import",
            json=[{"uid": i, "review": text} for i, text in enumerate(texts)],
        )
    )
    ids = {task["data"]["review"]: task["id"] for task in tasks_of(studio, project)}
    for text, choice, skipped in zip(
        texts, ("Positive", "Negative", "Positive"), (False, False, True), strict=False
    ):
        region = {
            "from_name": "sentiment",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [choice]},
        }
        ok(
            studio.post(
                f"/api/tasks/{ids[text]}/annotations", json={"result": [region], "was_cancelled": skipped}
            )
        )

    forms = ("JSON", "JSON_MIN", "CSV", "TSV")
    for form, everything in (("JSON", True), *((form, False) for form in forms)):
        exported = studio.get(
            f"/api/projects/{project}/export", params={"exportType": form, "download_all_tasks": everything}
        )
        path = tmp_path / f"export.{'json' if 'JSON' in form else form.lower()}"
        path.write_bytes(exported.content)
        with open_labelled(LabelledSource(path)) as rows:
            found = {example.text: example.label for example in rows}
        assert found == {texts[0]: "Positive", texts[1]: "Negative"}, form
        assert rows.left_out.reasons[Reason.UNANSWERED] == everything, form
        assert rows.left_out.reasons[Reason.SKIPPED] == (form == "JSON"), form

    monkeypatch.setenv(KEY_VARIABLE, str(studio.headers["Authorization"]).partition(" ")[2])
    options = LabelledOptions(None, label_studio=str(studio.base_url), project=project)
    with labelled_source(options, Console(quiet=True)) as source:
        project_texts = read_labelled(source)
    assert dict(zip(project_texts.texts, project_texts.labels, strict=True)) == {
        texts[0]: ("Positive",),
        texts[1]: ("Negative",),
    }
    assert project_texts.left_out.reasons == {Reason.SKIPPED: 1, Reason.UNANSWERED: 1}


def create_project(studio: httpx.Client, config: str) -> int:
    project: int = ok(studio.post("/api/projects", json={"title": "End to end", "label_config": config}))[
        "id"
    ]
    return project


def upload(studio: httpx.Client, project: int, path: Path) -> Any:
    """Import a file the way the browser does."""
    kind = "text/csv" if path.suffix == ".csv" else "application/json"
    return ok(
        studio.post(f"/api/projects/{project}/import", files={"file": (path.name, path.read_bytes(), kind)})
    )


def retrieve_predictions(studio: httpx.Client, project: int) -> None:
    """The Data Manager's action "Retrieve predictions" over all tasks."""
    everything = {"selectedItems": {"all": True, "excluded": []}}
    ok(
        studio.post(
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json=everything,
        )
    )


def tasks_of(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    """All tasks with the Data Manager's columns."""
    page = ok(studio.get("/api/tasks", params={"project": project, "fields": "all", "page_size": 1000}))
    tasks: list[dict[str, Any]] = page["tasks"]
    assert len(tasks) == page["total"]
    return tasks


def stored_answers(studio: httpx.Client, project: int) -> dict[str, Answer]:
    """What Label Studio has stored, by the review's uid. Each task must have exactly one prediction."""
    predictions = ok(studio.get("/api/predictions", params={"project": project}))
    by_task = {prediction["task"]: answer_of(prediction) for prediction in predictions}
    uids = {task["id"]: str(task["data"]["uid"]) for task in tasks_of(studio, project)}
    assert len(predictions) == len(by_task) == len(uids) == len(set(uids.values()))
    return {uids[task]: answer for task, answer in by_task.items()}


def assert_score_column(studio: httpx.Client, project: int, expected: dict[str, Answer]) -> None:
    """The Data Manager's column "Prediction score" is filled, for every task with its own score."""
    column = {str(task["data"]["uid"]): task["predictions_score"] for task in tasks_of(studio, project)}
    assert column == {uid: pytest.approx(score, abs=TOLERANCE) for uid, (_, score, _) in expected.items()}


def assert_sorted_by_score(studio: httpx.Client, project: int, expected: dict[str, Answer]) -> None:
    """The Data Manager sorts by that column, the least certain first and last."""
    for ordering, descending in (("tasks:predictions_score", False), ("-tasks:predictions_score", True)):
        page = ok(
            studio.get(
                "/api/tasks",
                params={"project": project, "page_size": 1000, "query": json.dumps({"ordering": [ordering]})},
            )
        )
        scores = [expected[str(task["data"]["uid"])][1] for task in page["tasks"]]
        assert scores == sorted(scores, reverse=descending)
        assert len(scores) == len(expected)


def direct_answers(backend: httpx.Client, reviews: Path, config: str) -> dict[str, Answer]:
    """The backend's own answers to the reviews of a CSV file."""
    with reviews.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    body = {"tasks": [{"data": {"review": row["review"]}} for row in rows], "label_config": config}
    results = ok(backend.post("/predict", json=body))["results"]
    return {row["uid"]: answer_of(result) for row, result in zip(rows, results, strict=True)}


def prelabel_predict(source: Path, out: Path, bundle: Path) -> Path:
    command = [sys.executable, "prelabel.py", "predict", str(source), str(out), "--bundle", str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def file_answers(path: Path) -> dict[str, Answer]:
    """The predictions in an import file, one a task."""
    tasks = json.loads(path.read_text("utf-8"))
    assert all(len(task["predictions"]) == 1 for task in tasks)
    return {str(task["data"]["uid"]): answer_of(task["predictions"][0]) for task in tasks}


def answer_of(prediction: dict[str, Any]) -> Answer:
    [region] = prediction["result"]
    assert (region["type"], region["from_name"], region["to_name"]) == ("choices", "sentiment", "text")
    [choice] = region["value"]["choices"]
    return choice, prediction["score"], prediction["model_version"]


def assert_same(found: dict[str, Answer], expected: dict[str, Answer]) -> None:
    near: dict[str, Any] = {
        uid: (choice, pytest.approx(score, abs=TOLERANCE), version)
        for uid, (choice, score, version) in expected.items()
    }
    assert found == near


def ok(response: httpx.Response) -> Any:
    """The JSON of the response; fails with Label Studio's message on an error."""
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    )
    return response.json()
