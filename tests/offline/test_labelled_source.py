"""Labelled texts of a project, through Label Studio's API; options that contradict each other."""

import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from server.errors import BadSetting
from server.label_studio.credentials import KEY_VARIABLE
from server.label_studio.exported_labels import Reason
from server.offline.labelled import read_labelled
from server.offline.labelled_source import LabelledOptions, labelled_source

QUIET = Console(file=io.StringIO())
CONFIG = """<View><HyperText name="t" value="$page"/><Choices name="mood" toName="t">
<Choice value="good"/><Choice value="bad"/></Choices></View>"""


def task(number: int) -> dict[str, Any]:
    """Every fourth task has no annotation, every eighth was skipped, all others are labelled."""
    region = {"from_name": "mood", "type": "choices", "value": {"choices": [("good", "bad")[number % 2]]}}
    answers = [{"result": [region]}] if number % 4 else []
    skipped = [{"result": [], "was_cancelled": True}] if number % 8 == 0 else []
    return {
        "id": number,
        "data": {"page": f"<p>text {number}"},
        "annotations": answers + skipped,
        "total_annotations": len(answers),
        "cancelled_annotations": len(skipped),
    }


def chosen(value: Any, names: list[str]) -> dict[str, Any]:
    """These fields of a task, and as in Label Studio also of its annotations."""
    found = {name: value[name] for name in names if name in value}
    if "annotations" in found:
        found["annotations"] = [chosen(each, names) for each in found["annotations"]]
    return found


class Studio(BaseHTTPRequestHandler):
    """Label Studio with project 7, whose tasks are 1 to 2,000."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        parameters = {name: values[0] for name, values in parse_qs(address.query).items()}
        status, body = 200, {"label_config": CONFIG}
        if address.path == "/api/tasks":
            body = self.tasks(parameters)
        elif address.path != "/api/projects/7":
            status, body = 404, {"detail": "Not found."}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def tasks(self, parameters: dict[str, str]) -> dict[str, Any]:
        columns = {"filter:tasks:id": "id", "filter:tasks:total_annotations": "total_annotations"}
        found = [task(number) for number in range(1, 2001)]
        for item in json.loads(parameters["query"])["filters"]["items"]:
            name, value = columns[item["filter"]], item["value"]
            found = [
                each
                for each in found
                if (each[name] > value if item["operator"] == "greater" else each[name] == value)
            ]
        names = parameters["include"].split(",")
        page = found[: int(parameters["page_size"])]
        return {"total": len(found), "tasks": [chosen(each, names) for each in page]}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(KEY_VARIABLE, "legacy")
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Studio) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_project_is_read_as_its_labeling_config_shows_it(studio: str) -> None:
    with labelled_source(LabelledOptions(None, label_studio=studio, project=7), QUIET) as source:
        found = read_labelled(source)
        again = read_labelled(source)
    assert len(found.texts) == 1500
    assert (found.texts[:2], found.labels[:2]) == (["\ntext 1", "\ntext 2"], [("bad",), ("good",)])
    assert found.left_out.reasons == {Reason.UNANSWERED: 250, Reason.SKIPPED: 250}
    assert again == found
    assert not source.path.exists()


def test_a_project_that_is_not_there(studio: str) -> None:
    options = LabelledOptions(None, label_studio=studio, project=8)
    with (
        pytest.raises(BadSetting, match="--project 8: Label Studio has no such project"),
        labelled_source(options, QUIET),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LabelledOptions(None), "Give a file of labelled texts, or a project"),
        (LabelledOptions(Path("a.csv"), label_studio="http://x", project=7), "Give a file .* or a project"),
        (LabelledOptions(None, label_studio="http://x"), "--label-studio and --project: give both"),
        (LabelledOptions(Path("a.csv"), project=7), "--label-studio and --project: give both"),
        (LabelledOptions(Path("a.csv"), "body", label_config=Path("c.xml")), "leave --text out"),
        (LabelledOptions(None, "body", label_studio="http://x", project=7), "leave --text out"),
    ],
)
def test_options_that_contradict_each_other(options: LabelledOptions, message: str) -> None:
    with pytest.raises(BadSetting, match=message), labelled_source(options, QUIET):
        pass
