"""A model of one's own, from labelled texts to predictions in a real Label Studio, with the commands that the
README shows.
"""

import csv
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.label_studio.credentials import KEY_VARIABLE
from tests.e2e.conftest import ROOT, serving

pytestmark = pytest.mark.e2e

SECTIONS = ROOT.parent / "shared" / "sections"
"""Descriptions of software with their section, of eight."""


def rows(name: str) -> list[dict[str, str]]:
    if not SECTIONS.is_dir():
        pytest.skip("the labelled descriptions are missing: no folder shared/sections next to the repository")
    with lzma.open(SECTIONS / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def prelabel(studio: httpx.Client, *arguments: object) -> str:
    key = studio.headers["Authorization"].removeprefix("Token ")
    environment = os.environ | {KEY_VARIABLE: key, "NO_PROXY": "*", "no_proxy": "*"}
    command = [sys.executable, "prelabel.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text[:500]
    return response.json()


def test_a_trained_bundle_labels_a_project(studio: httpx.Client, tmp_path: Path) -> None:
    rows("en-train.csv.xz")
    out = tmp_path / "sections"
    table = SECTIONS / "en-train.csv.xz"
    prelabel(studio, "train", "--train", table, "--text", "description", "--label", "section", "--out", out)
    assert right_labels(studio, out, tmp_path) >= 45  # 0.88 of all test texts


def test_a_sentence_encoder_with_a_head_for_200_texts_labels_a_project(
    studio: httpx.Client, tmp_path: Path
) -> None:
    """MiniLM, with trained weights."""
    encoder = os.environ.get("SENTENCE_ENCODER")
    if encoder is None:
        pytest.skip("the variable SENTENCE_ENCODER does not name the directory of MiniLM; `make e2e` does")
    table, out = tmp_path / "200.csv", tmp_path / "minilm"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["description", "section"])
        writer.writeheader()
        writer.writerows(rows("en-train.csv.xz")[::19][:200])
    columns = "--text", "description", "--label", "section"
    said = prelabel(studio, "train", "--train", table, *columns, "--sentence-encoder", encoder, "--out", out)
    assert "Transformer: bert" in said
    assert right_labels(studio, out, tmp_path) >= 36


def right_labels(studio: httpx.Client, out: Path, tmp_path: Path) -> int:
    """Serves the bundle `out`, connects it to a project of 60 test texts, and annotates that. Returns how
    many predictions in Label Studio are right.
    """
    tested = rows("en-test.csv.xz")[:60]
    config = (out / "labeling_config.xml").read_text("utf-8")
    project = ok(studio.post("/api/projects", json={"title": "Sections", "label_config": config}))["id"]
    tasks = [{"description": row["description"]} for row in tested]
    ok(studio.post(f"/api/projects/{project}/import", json=tasks))
    with serving(out, tmp_path / "server.log") as backend:
        url = str(backend.base_url).rstrip("/")
        where = ("--label-studio", str(studio.base_url).rstrip("/"), "--project", project)
        prelabel(studio, "connect", *where, "--backend", url)
        prelabel(studio, "annotate", *where, "--backend", url)
        version = ok(backend.get("/health"))["model_version"]
    found = ok(studio.get("/api/predictions", params={"project": project}))
    assert len(found) == 60
    assert {prediction["model_version"] for prediction in found} == {version}
    labels = {prediction["task"]: prediction["result"][0]["value"]["choices"] for prediction in found}
    texts = {
        task["id"]: task["data"]["description"]
        for task in ok(studio.get("/api/tasks", params={"project": project, "page_size": 100}))["tasks"]
    }
    truth = {row["description"]: row["section"] for row in tested}
    assert {label for several in labels.values() for label in several} <= set(truth.values()) | {
        row["section"] for row in rows("en-train.csv.xz")
    }
    return sum(labels[task] == [truth[text]] for task, text in texts.items())
