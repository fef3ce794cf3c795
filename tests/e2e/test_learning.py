"""Online learning with a real Label Studio: a script answers tasks in the order of uncertainty sampling."""

import csv
import lzma
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.label_studio.credentials import KEY_VARIABLE
from server.learning.store import LearningStore
from tests.e2e.conftest import ROOT, serving
from tests.ports import reserved_port

pytestmark = pytest.mark.e2e

SECTIONS = ROOT.parent / "shared" / "sections"
LABELS = ("admin", "games", "graphics", "mail", "net", "science", "sound", "web")
CONFIG = (
    '<View><Text name="text" value="$description"/><Choices name="section" toName="text">'
    + "".join(f'<Choice value="{label}"/>' for label in LABELS)
    + "</Choices></View>"
)
TASKS, ANSWERS = 250, 90
SECONDS = 240.0


def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text[:500]
    return response.json() if response.content else None


def wait_until(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.2)
    return found


@dataclass
class Project:
    studio: httpx.Client
    id: int
    sections: dict[str, str]
    """The section of each description."""

    def tasks(self) -> list[dict[str, Any]]:
        page = f"/api/tasks?project={self.id}&page_size={TASKS}&fields=all"
        tasks: list[dict[str, Any]] = ok(self.studio.get(page))["tasks"]
        return tasks

    def next_task(self) -> dict[str, Any]:
        """What Label Studio would show an annotator."""
        task: dict[str, Any] = ok(self.studio.get(f"/api/projects/{self.id}/next"))
        return task

    def answer(self, task: dict[str, Any], label: str | None = None) -> int:
        """Annotate as the annotator would, or with another label; the number of the annotation."""
        label = label or self.sections[task["data"]["description"]]
        region = {"from_name": "section", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
        url = f"/api/tasks/{task['id']}/annotations/"
        number: int = ok(self.studio.post(url, params={"project": self.id}, json={"result": [region]}))["id"]
        return number

    def backend(self) -> dict[str, Any]:
        row: dict[str, Any] = ok(self.studio.get("/api/ml", params={"project": self.id}))[0]
        return row

    def right(self) -> float:
        """The share of the shown predictions that are right, of tasks without an annotation."""
        version = self.backend()["title"]
        found = []
        for task in self.tasks():
            shown = [each for each in task["predictions"] if each["model_version"] == version]
            if shown and not task["total_annotations"]:
                choices = shown[0]["result"][0]["value"]["choices"]
                found.append(bool(choices == [self.sections[task["data"]["description"]]]))
        return found.count(True) / max(1, len(found))


@pytest.fixture
def project(studio: httpx.Client) -> Iterator[Project]:
    if not SECTIONS.is_dir():
        pytest.skip("the labelled descriptions are missing: no folder shared/sections next to the repository")
    with lzma.open(SECTIONS / "en-train.csv.xz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:TASKS]
    fields = {"title": "Sections", "label_config": CONFIG, "sampling": "Uncertainty sampling"}
    number = ok(studio.post("/api/projects", json=fields))["id"]
    tasks = [{"data": {"description": row["description"]}} for row in rows]
    ok(studio.post(f"/api/projects/{number}/import", json=tasks, timeout=120))
    yield Project(studio, number, {row["description"]: row["section"] for row in rows})
    ok(studio.delete(f"/api/projects/{number}"))


@contextmanager
def learning(
    studio: httpx.Client, bundle: Path, folder: Path, port: int, workers: int = 1
) -> Iterator[httpx.Client]:
    key = studio.headers["Authorization"].removeprefix("Token ")
    settings = {
        KEY_VARIABLE: key,
        "PRELABEL_LEARN_FOLDER": str(folder / "learned"),
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    options = ("--learn", str(studio.base_url), "--workers", str(workers))
    log = folder / "server.log"
    with serving(bundle, log, *options, port=port, settings=settings) as client:
        yield client


def prelabel(studio: httpx.Client, folder: Path, *arguments: object) -> str:
    key = studio.headers["Authorization"].removeprefix("Token ")
    environment = os.environ | {
        KEY_VARIABLE: key,
        "PRELABEL_LEARN_FOLDER": str(folder / "learned"),
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    command = [str(ROOT / ".venv/dev/bin/python"), "prelabel.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def connect(studio: httpx.Client, folder: Path, project: Project, server: httpx.Client) -> None:
    where = ("--label-studio", studio.base_url, "--project", project.id)
    prelabel(studio, folder, "connect", *where, "--backend", str(server.base_url).rstrip("/"), "--learn")


def status(server: httpx.Client) -> dict[str, Any]:
    """Of the only project that learns."""
    (found,) = ok(server.get("/"))["learning"]
    assert isinstance(found, dict)
    return found


def test_a_project_with_new_labels_is_learned_while_it_is_annotated(
    studio: httpx.Client, project: Project, bundle: Path, tmp_path: Path
) -> None:
    """With two workers. The learner is killed on the way, and the server."""
    port = reserved_port()
    with learning(studio, bundle, tmp_path, port, workers=2) as server:
        connect(studio, tmp_path, project, server)
        assert not any(task["predictions"] for task in project.tasks()), "nothing rather than nonsense"
        answered = Counter[int]()
        versions = list[str]()
        for number in range(ANSWERS):
            if number == ANSWERS // 3:
                kill_learner(tmp_path)
            if number == ANSWERS - 10:  # at the latest after a quiet minute
                wait_until(
                    lambda: status(server)["serves"] and project.backend()["title"] not in versions[:1]
                )
            task = project.next_task()
            answered[task["id"]] += 1
            project.answer(task)
            if (title := project.backend()["title"]) not in versions:
                versions.append(title)
        assert max(answered.values()) == 1
        wait_until(lambda: status(server)["annotations"] == ANSWERS)
        ok(studio.post(f"/api/ml/{project.backend()['id']}/train"))  # the button “Start Training”
        wait_until(lambda: requested_round(status(server)))
        last = status(server)
    assert len(versions) >= 2, f"new versions while annotating: {versions}"
    # all tasks without an annotation have a prediction of the version that is shown
    shown = project.backend()["title"]
    tasks = [task for task in project.tasks() if not task["total_annotations"]]
    assert all(shown in {each["model_version"] for each in task["predictions"]} for task in tasks)
    assert project.right() >= 0.4, "of eight labels"
    assert last["agreement"]["total"] > 0
    with LearningStore(tmp_path / "learned" / "learning.sqlite") as store:
        assert store.count(project.id) == ANSWERS


def test_webhooks_that_are_lost_are_made_up_for(
    studio: httpx.Client, project: Project, bundle: Path, tmp_path: Path
) -> None:
    """Annotations while the server is down, and one edited and one deleted."""
    port = reserved_port()
    tasks = project.tasks()
    with learning(studio, bundle, tmp_path, port) as server:
        connect(studio, tmp_path, project, server)
        numbers = [project.answer(task) for task in tasks[:12]]
        wait_until(lambda: status(server)["annotations"] == 12)
    numbers += [project.answer(task) for task in tasks[12:20]]
    region = {"from_name": "section", "to_name": "text", "type": "choices", "value": {"choices": ["web"]}}
    ok(studio.patch(f"/api/annotations/{numbers[0]}/", json={"result": [region]}))
    ok(studio.delete(f"/api/annotations/{numbers[1]}/"))
    with learning(studio, bundle, tmp_path, port) as server:
        wait_until(lambda: status(server)["annotations"] == 19)
    with LearningStore(tmp_path / "learned" / "learning.sqlite") as store:
        found = {each.id: each for each in store.annotations(project.id)}
    assert found.keys() == {*numbers} - {numbers[1]}
    assert found[numbers[0]].labels == ("web",)


def requested_round(found: dict[str, Any]) -> bool:
    last = found["last_round"]
    return last is not None and last["trigger"] == "requested"


def kill_learner(folder: Path) -> None:
    """The learner of the server whose folder this is."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if b"export.learning" in command and str(folder).encode() in environment:
            os.kill(int(process.name), signal.SIGKILL)
            return
    pytest.fail("there is no learner")
