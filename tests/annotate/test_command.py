"""`prelabel annotate` as a process, between a Label Studio and an ML backend that block chosen requests.

A blocked request gets no response before the process has ended, so a process that waits for it fails the
test by its timeout.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from server.annotate.background import StopRequest
from server.annotate.console import LEAVING, STOPPED, STOPPING
from server.annotate.options import AnnotateOptions
from server.annotate.prediction_source import PredictionSource
from server.annotate.run import AnnotateRun
from server.errors import BackendFailed, BadSetting
from server.label_studio.api_client import Api
from server.label_studio.made_by_model import KEY, is_made_by_model, marked
from server.label_studio.predictions import Prediction
from server.label_studio.project_tasks import Task
from tests.conftest import ROOT

PAGE = 500
SECONDS = 60
"""After which a process that does not end fails the test."""


@dataclass
class World:
    """A Label Studio with `tasks` tasks in one project, and an ML backend, behind one address.

    The requests in `blocked` (name and number, counted from 1) wait for `release`. `arrived` gets each
    request's name and number when it arrives.
    """

    tasks: int
    blocked: set[tuple[str, int]] = field(default_factory=set)
    stored: list[int] = field(default_factory=list)
    annotations: dict[int, Any] = field(default_factory=dict)
    arrived: "SimpleQueue[tuple[str, int]]" = field(default_factory=SimpleQueue)
    release: Event = field(default_factory=Event)
    counts: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def respond(self, name: str, query: dict[str, list[str]], body: Any) -> Any:
        match name:
            case "project":
                return {
                    "id": 7,
                    "label_config": "<View/>",
                    "task_number": self.tasks,
                    "total_predictions_number": len(self.stored),
                    "evaluate_predictions_automatically": False,
                    "model_version": "v",
                }
            case "versions":
                return {"v": len(self.stored)}
            case "tasks":
                return self._page(query)
            case "upload":
                self.stored += [item["task"] for item in body]
                return {"created": len(body)}
            case "setup":
                return {"model_version": "v"}
            case "predict":
                return {"results": [self._prediction(task["id"]) for task in body["tasks"]]}
        raise AssertionError(name)

    def annotate(self, task: int, body: Any) -> Any:
        self.annotations[task] = body
        return {"id": task}

    def _prediction(self, task: int) -> Any:
        """Each tenth task has a certain one."""
        if task % 10:
            return {"result": [], "score": 0.5}
        region = {"from_name": "section", "to_name": "text", "type": "choices", "value": {"choices": ["web"]}}
        return {"result": [region], "score": 0.97}

    def _page(self, query: dict[str, list[str]]) -> Any:
        filters = json.loads(query["query"][0])["filters"]["items"]
        after = max((item["value"] for item in filters if item["filter"] == "filter:tasks:id"), default=0)
        done = {*self.stored, *self.annotations}
        missing = [task for task in range(after + 1, self.tasks + 1) if task not in done]
        page = missing[: int(query["page_size"][0])]
        return {"total": len(missing), "tasks": [{"id": task, "data": {}} for task in page]}


NAMES = {
    "/api/projects/7": "project",
    "/api/projects/7/model-versions/": "versions",
    "/api/tasks": "tasks",
    "/api/projects/7/import/predictions": "upload",
    "/setup": "setup",
    "/predict": "predict",
}
ANNOTATIONS = re.compile(r"/api/tasks/(\d+)/annotations/")


@contextmanager
def running(world: World) -> Iterator[World]:
    """Serve the world on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            task = ANNOTATIONS.fullmatch(url.path)
            name = "annotation" if task else NAMES[url.path]
            world.counts[name] += 1
            request = (name, world.counts[name])
            world.arrived.put(request)
            if request in world.blocked:
                world.release.wait(SECONDS)
            sent = json.loads(content) if content else None
            found = (
                world.annotate(int(task[1]), sent) if task else world.respond(name, parse_qs(url.query), sent)
            )
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

        def log_error(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The process under test leaves requests unread."""

    with Server(("127.0.0.1", 0), Handler) as server:
        world.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield world
        finally:
            world.release.set()
            server.shutdown()
            thread.join()


@contextmanager
def annotating(world: World, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`prelabel annotate` with predictions from the world's ML backend."""
    command = [sys.executable, "prelabel.py", "annotate", "--label-studio", world.url, "--project", "7"]
    with subprocess.Popen(
        [*command, "--backend", world.url, *options],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "LABEL_STUDIO_API_KEY": "legacy", "NO_PROXY": "*"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(world: World, *requests: tuple[str, int]) -> None:
    """Until all of these have arrived."""
    missing = set(requests)
    while missing:
        missing.discard(world.arrived.get(timeout=SECONDS))


def interrupt(process: "subprocess.Popen[str]") -> str:
    """Send the first Ctrl-C; returns once the process says that it is stopping."""
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    return next(line for line in process.stderr if STOPPING in line)


def figure(output: str, row: str) -> int:
    """The number in the summary's row that contains these words."""
    line = next(line for line in output.splitlines() if row in line)
    return int(line.split("│")[2].replace(",", ""))


def test_the_first_ctrl_c_stores_what_is_predicted_and_waits_for_no_other_request() -> None:
    """The fourth page is fetched once the second is predicted. The next run does the rest."""
    blocked = {("tasks", 4), ("predict", 3)}
    with running(World(2200, blocked)) as world:
        with annotating(world) as process:
            wait_for(world, *blocked)
            interrupt(process)
            output, errors = process.communicate(timeout=SECONDS)
            assert not world.release.is_set()
        assert process.returncode == STOPPED, errors
        assert world.stored == list(range(1, 2 * PAGE + 1))
        assert (figure(output, "predicted and stored"), figure(output, "left to do")) == (1000, 1200)
        assert "Run the same command again to continue" in output

        world.release.set()
        with annotating(world, "--batch", "700") as process:
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert (world.stored, world.counts["upload"]) == (list(range(1, 2201)), 3)
    assert (figure(output, "had this version"), figure(output, "predicted and stored")) == (1000, 1200)


def test_the_first_ctrl_c_waits_for_predictions_that_are_being_stored() -> None:
    with running(World(5000, {("upload", 1)})) as world, annotating(world, "--batch", str(PAGE)) as process:
        wait_for(world, ("upload", 1))
        interrupt(process)
        world.release.set()
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == STOPPED, errors
    assert world.stored == list(range(1, PAGE + 1))
    assert figure(output, "predicted and stored") == PAGE


@pytest.mark.parametrize("under_way", ["project", "upload"])
def test_the_second_ctrl_c_leaves_at_once_whatever_request_is_under_way(under_way: str) -> None:
    blocked = {(under_way, 1), ("tasks", 3)}
    with running(World(5000, blocked)) as world, annotating(world) as process:
        wait_for(world, ("project", 1) if under_way == "project" else ("tasks", 3))
        interrupt(process)
        if under_way == "upload":
            wait_for(world, ("upload", 1))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
        assert not world.release.is_set()
    assert process.returncode == STOPPED, errors
    assert LEAVING in errors
    assert "Traceback" not in output + errors


def test_what_is_predicted_is_stored_when_the_backend_fails() -> None:
    pages = 0

    def predict(tasks: list[Task]) -> list[Prediction | None]:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise BackendFailed("gone")
        return [Prediction(model_version="v", score=0.5, result=[]) for _ in tasks]

    with running(World(5000)) as world:
        run = AnnotateRun(
            Api(world.url, "legacy"), AnnotateOptions(7), stop=StopRequest(), on_progress=lambda _: None
        )
        with pytest.raises(BackendFailed, match="gone"):
            run.run(lambda *_: PredictionSource("v", predict, PAGE))
    assert world.stored == list(range(1, 2 * PAGE + 1))
    assert run.result is not None
    assert (run.result.stored, run.result.finished) == (1000, False)


def test_certain_predictions_become_annotations_that_say_so() -> None:
    with running(World(600)) as world:
        with annotating(world, "--accept-above", "0.9", "--dry-run") as process:
            output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        assert (figure(output, "nothing stored"), world.annotations) == (60, {})

        with annotating(world, "--accept-above", "0.9") as process:
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert (figure(output, "annotated"), figure(output, "left to people")) == (60, 540)
    assert sorted(world.annotations) == [*range(10, 601, 10)]
    result = world.annotations[10]["result"]
    assert is_made_by_model(result)
    assert result[0]["meta"] == {KEY: "v", "text": ["accepted from v"]}
    assert world.stored == []


def test_accepting_can_be_stopped_and_goes_on() -> None:
    with running(World(600, {("annotation", 50)})) as world:
        with annotating(world, "--accept-above", "0.9") as process:
            wait_for(world, ("annotation", 50))
            interrupt(process)
            output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == STOPPED, errors
        assert "Run the same command again to continue" in output
        world.release.set()
        with annotating(world, "--accept-above", "0.9") as process:
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert sorted(world.annotations) == [*range(10, 601, 10)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (AnnotateOptions(7, view=3, accept_above=0.9), "leave out --view"),
        (AnnotateOptions(7, accept_above=0.9), "leave out --score margin"),
    ],
)
def test_options_that_exclude_accepting(options: AnnotateOptions, reason: str) -> None:
    with pytest.raises(BadSetting, match=reason):
        options.check("margin")


def test_a_person_who_changed_a_region_made_the_annotation() -> None:
    (region,) = marked([{"value": {"choices": ["web"]}}], "v")
    assert is_made_by_model([region])
    assert not is_made_by_model([region, {"value": {"choices": ["mail"]}}])
    for other in ([], None, "text", [{"meta": None}], [{"meta": {"text": ["mine"]}}]):
        assert not is_made_by_model(other)
