"""`prelabel annotate` against a real Label Studio: whose tasks get which predictions, once each.

Every outcome is read back through Label Studio's own API.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

TOLERANCE = 1e-6
"""Largest difference between scores of the same text."""

WORDS = (
    "a great film",
    "an awful film",
    "it was dull",
    "lovely actors",
    "what a waste",
    "I liked the music",
    "the plot never works",
    "see it twice",
)
NO_TEXT = [{"nested": 1}]
"""Label Studio imports a list as a text; this one holds none."""

ANNOTATION = {
    "from_name": "sentiment",
    "to_name": "text",
    "type": "choices",
    "value": {"choices": ["Positive"]},
}


def test_every_task_gets_one_prediction_and_no_second_run_adds_any(
    studio: httpx.Client, backend: httpx.Client, bundle: Path
) -> None:
    texts: list[Any] = [f"Review {i}: {WORDS[i % 8]}, {WORDS[i // 8 % 8]}." for i in range(1998)]
    project = project_with(studio, [*texts, NO_TEXT, 10])
    version = version_of(backend)

    first = annotate(studio, project, "--bundle", bundle)
    assert first.returncode == 0, first.stderr
    assert figures(
        first.stdout, "in the project", "had this version", "predicted and stored", "without text", "failed"
    ) == [2000, 0, 2000, 1, 0]
    assert f"shows the scores of {version}" in first.stdout
    assert "Review" not in first.stdout + first.stderr

    found = stored(studio, project)
    assert Counter(prediction["model_version"] for prediction in found) == {version: 2000}
    by_text = predictions_by_text(studio, project)
    assert by_text[str(NO_TEXT)]["result"] == []
    sample = texts[::100]
    body = {"tasks": [{"data": {"review": text}} for text in sample], "label_config": TUTORIAL_CONFIG}
    for text, answer in zip(sample, ok(backend.post("/predict", json=body))["results"], strict=True):
        assert by_text[text]["result"][0]["value"] == answer["result"][0]["value"]
        assert by_text[text]["score"] == pytest.approx(answer["score"], abs=TOLERANCE)
    assert ok(studio.get(f"/api/projects/{project}"))["model_version"] == version
    page = ok(studio.get("/api/tasks", params={"project": project, "fields": "all", "page_size": 5}))
    assert all(
        task["predictions_score"] is not None and task["total_predictions"] == 1 for task in page["tasks"]
    )

    second = annotate(studio, project, "--bundle", bundle)
    assert second.returncode == 0, second.stderr
    assert figures(second.stdout, "had this version", "predicted and stored") == [2000, 0]
    assert stored(studio, project) == found


def test_a_stopped_run_goes_on_where_it_stopped(
    studio: httpx.Client, backend: httpx.Client, bundle: Path
) -> None:
    project = project_with(studio, [f"{i} {WORDS[i % 8]}" for i in range(2000)])
    process = start_annotate(studio, project, "--bundle", bundle, "--batch", "100")
    while not (before := len(stored(studio, project))):
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Run the same command again" in output
    [done, left] = figures(output, "predicted and stored", "left to do")
    assert len(stored(studio, project)) == done >= before
    assert (done < 2000, done + left) == (True, 2000)

    rest = annotate(studio, project, "--bundle", bundle)
    assert rest.returncode == 0, rest.stderr
    assert figures(rest.stdout, "had this version", "predicted and stored") == [done, left]
    assert Counter(Counter(prediction["task"] for prediction in stored(studio, project)).values()) == {
        1: 2000
    }


def test_a_dry_run_stores_nothing_and_only_unlabeled_leaves_the_labeled(
    studio: httpx.Client, backend: httpx.Client, bundle: Path
) -> None:
    project = project_with(studio, list(WORDS))
    ids = ids_by_text(studio, project)
    labeled = {ids[WORDS[0]], ids[WORDS[5]]}
    for task in labeled:
        ok(studio.post(f"/api/tasks/{task}/annotations", json={"result": [ANNOTATION]}))

    tried = annotate(studio, project, "--bundle", bundle, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert figures(tried.stdout, "nothing stored", "failed") == [8, 0]
    assert stored(studio, project) == []
    assert not ok(studio.get(f"/api/projects/{project}"))["model_version"]

    done = annotate(studio, project, "--bundle", bundle, "--only-unlabeled")
    assert figures(done.stdout, "without an annotation", "predicted and stored") == [6, 6]
    assert {prediction["task"] for prediction in stored(studio, project)} == set(ids.values()) - labeled


def test_a_project_that_predicts_whatever_is_listed_is_left_in_peace(
    studio: httpx.Client, backend: httpx.Client, bundle: Path
) -> None:
    """Listing tasks makes Label Studio call its ML backend where the project says so, but not for us; and the
    version that it shows stays.
    """
    project = project_with(studio, list(WORDS))
    ok(studio.post("/api/ml", json={"url": str(backend.base_url), "project": project, "title": "live"}))
    ok(
        studio.patch(
            f"/api/projects/{project}",
            json={"evaluate_predictions_automatically": True, "model_version": "live"},
        )
    )

    tried = annotate(studio, project, "--bundle", bundle, "--dry-run")
    assert figures(tried.stdout, "nothing stored") == [8]
    assert stored(studio, project) == []

    done = annotate(studio, project, "--bundle", bundle)
    assert figures(done.stdout, "predicted and stored") == [8]
    assert len(stored(studio, project)) == 8
    assert ok(studio.get(f"/api/projects/{project}"))["model_version"] == "live"
    assert "shows the scores of live" in done.stdout


@pytest.mark.parametrize(
    ("conjunction", "expected"), [("and", {WORDS[0]}), ("or", {WORDS[0], WORDS[1], WORDS[3]})]
)
def test_a_tab_chooses_the_tasks(
    studio: httpx.Client, backend: httpx.Client, bundle: Path, conjunction: str, expected: set[str]
) -> None:
    """Through the ML backend this time. Its filters join with ours, whichever way they join with one
    another.
    """
    project = project_with(studio, list(WORDS))
    ids = ids_by_text(studio, project)
    film = {"filter": "filter:tasks:data.review", "operator": "contains", "type": "String", "value": "film"}
    great = {
        "filter": "filter:tasks:data.review",
        "operator": "regex",
        "type": "String",
        "value": "great|lovely",
    }
    filters = {"conjunction": conjunction, "items": [film, great]}
    tab = ok(
        studio.post("/api/dm/views", json={"project": project, "data": {"title": "Some", "filters": filters}})
    )["id"]

    done = annotate(studio, project, "--backend", backend.base_url, "--view", tab)

    assert done.returncode == 0, done.stdout + done.stderr
    assert figures(done.stdout, "predicted and stored") == [len(expected)]
    found = stored(studio, project)
    assert Counter(prediction["task"] for prediction in found) == {ids[text]: 1 for text in expected}
    assert {prediction["model_version"] for prediction in found} == {version_of(backend)}

    refused = annotate(
        studio, project_with(studio, list(WORDS)), "--backend", backend.base_url, "--view", tab
    )
    assert (refused.returncode, f"belongs to project {project}" in refused.stderr) == (1, True)


def test_a_longer_version_does_not_hide_a_task(
    studio: httpx.Client, backend: httpx.Client, bundle: Path
) -> None:
    """Label Studio's filter finds "v" in "v-margin"."""
    project = project_with(studio, list(WORDS))
    ids = list(ids_by_text(studio, project).values())
    version = version_of(backend)
    other = [
        {"task": task, "model_version": f"{version}-margin", "score": 0.5, "result": [ANNOTATION]}
        for task in (*ids[:5], ids[0])
    ]
    ok(
        studio.post(
            f"/api/projects/{project}/import/predictions",
            json=[*other, {**other[3], "model_version": version}],
        )
    )

    done = annotate(studio, project, "--bundle", bundle)

    assert done.returncode == 0, done.stdout + done.stderr
    assert figures(done.stdout, "had this version", "predicted and stored") == [1, 7]
    ours = [
        prediction["task"] for prediction in stored(studio, project) if prediction["model_version"] == version
    ]
    assert sorted(ours) == sorted(ids)
    assert figures(
        annotate(studio, project, "--bundle", bundle, "--score", "margin").stdout,
        "had this version",
        "predicted and stored",
    ) == [5, 3]


def test_bad_tasks_are_named_and_cost_only_themselves(studio: httpx.Client) -> None:
    """An ML backend that fails one task, gives one a choice that does not exist, and during whose work one is
    deleted.
    """
    project = project_with(studio, list(WORDS))
    ids = ids_by_text(studio, project)
    failing, misfit, deleted = (ids[text] for text in WORDS[:3])

    def answer(task: dict[str, Any]) -> dict[str, Any]:
        if task["id"] == failing:
            return {}
        if task["id"] == deleted:
            assert studio.delete(f"/api/tasks/{deleted}").is_success
        choice = "Sideways" if task["id"] == misfit else "Positive"
        return {"score": 0.75, "result": [{**ANNOTATION, "value": {"choices": [choice]}}]}

    with answering(answer) as url:
        done = annotate(studio, project, "--backend", url)

    assert done.returncode == 1, done.stderr
    assert figures(done.stdout, "predicted and stored", "failed") == [5, 3]
    reasons = dict(
        zip(
            ("no usable prediction", "skipped the prediction", "task was deleted"),
            (failing, misfit, deleted),
            strict=True,
        )
    )
    for reason, task in reasons.items():
        assert [line for line in done.stdout.splitlines() if str(task) in line and reason in line], (
            done.stdout
        )
    assert sorted(prediction["task"] for prediction in stored(studio, project)) == sorted(
        set(ids.values()) - {failing, misfit, deleted}
    )


def test_an_unusable_labeling_config_is_an_error_with_the_backends_message(
    studio: httpx.Client, backend: httpx.Client
) -> None:
    project = project_with(
        studio, list(WORDS), TUTORIAL_CONFIG.replace("Positive", "Good").replace("Negative", "Bad")
    )
    refused = annotate(studio, project, "--backend", backend.base_url)
    assert refused.returncode == 1
    assert "no choice for the model's labels" in refused.stderr
    assert stored(studio, project) == []


def test_what_is_missing_is_said(studio: httpx.Client, bundle: Path) -> None:
    missing = annotate(studio, 999_999, "--bundle", bundle)
    assert (missing.returncode, "no such project" in missing.stderr) == (1, True)
    untold = subprocess.run(
        command(studio, 1, "--bundle", bundle),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "LABEL_STUDIO_API_KEY"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (untold.returncode, "LABEL_STUDIO_API_KEY is not set" in untold.stderr) == (1, True)


@contextmanager
def answering(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[str]:
    """An ML backend that answers each task by `answer`; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = (
                {"results": [answer(task) for task in body["tasks"]]}
                if self.path == "/predict"
                else {"model_version": "hand-made"}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def command(studio: httpx.Client, project: int, *options: object) -> list[str]:
    return [
        sys.executable,
        "prelabel.py",
        "annotate",
        "--label-studio",
        str(studio.base_url),
        "--project",
        str(project),
        *map(str, options),
    ]


def environment(studio: httpx.Client) -> dict[str, str]:
    return os.environ | {"COLUMNS": "200", "LABEL_STUDIO_API_KEY": studio.headers["Authorization"].split()[1]}


def annotate(studio: httpx.Client, project: int, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(studio, project, *options),
        cwd=ROOT,
        env=environment(studio),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def start_annotate(studio: httpx.Client, project: int, *options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(studio, project, *options),
        cwd=ROOT,
        env=environment(studio),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures(output: str, *rows: str) -> list[int]:
    """The numbers in the summary's rows that contain these words."""
    lines = [line.split("│") for line in output.splitlines() if line.startswith("│")]
    return [next(int(line[2].replace(",", "")) for line in lines if row in line[1]) for row in rows]


def project_with(studio: httpx.Client, texts: list[Any], config: str = TUTORIAL_CONFIG) -> int:
    project: int = ok(studio.post("/api/projects", json={"title": "Annotate", "label_config": config}))["id"]
    ok(
        studio.post(
            f"/api/projects/{project}/import",
            json=[{"uid": i, "review": text} for i, text in enumerate(texts)],
        )
    )
    return project


def tasks_of(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = ok(
        studio.get("/api/tasks", params={"project": project, "page_size": 5000, "include": "id,data"})
    )["tasks"]
    return tasks


def ids_by_text(studio: httpx.Client, project: int) -> dict[str, int]:
    return {str(task["data"]["review"]): task["id"] for task in tasks_of(studio, project)}


def stored(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = ok(studio.get("/api/predictions", params={"project": project}))
    return sorted(predictions, key=lambda prediction: prediction["id"])


def predictions_by_text(studio: httpx.Client, project: int) -> dict[str, dict[str, Any]]:
    """Each task has exactly one."""
    by_task = {prediction["task"]: prediction for prediction in stored(studio, project)}
    ids = ids_by_text(studio, project)
    assert len(ids) == len(by_task)
    return {text: by_task[task] for text, task in ids.items()}


def version_of(backend: httpx.Client) -> str:
    version: str = ok(backend.get("/health"))["model_version"]
    return version


def ok(response: httpx.Response) -> Any:
    """The answer's JSON; Label Studio's own words when it refused."""
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    )
    return response.json()
