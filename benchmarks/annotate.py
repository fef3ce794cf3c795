"""How much faster `prelabel annotate` is than Label Studio's own "Retrieve predictions", on one machine, in
one run.

    LABEL_STUDIO_BIN=.venv/label-studio/bin/label-studio .venv/dev/bin/python -m benchmarks.annotate [REVIEWS.csv] [--tasks 2000] [--rounds 3]

Starts a real Label Studio (SQLite, in a temporary folder) and a real `prelabel serve`, imports the same
reviews (column `review`; made up where no file is given) into one project for "Retrieve predictions" and into
one a round for `annotate`, and prints both rates. What `annotate` counts runs from its first request to its
last answer; the whole command, with Python, ONNX Runtime and the bundle loaded, stands beside it.
"""

import os
import re
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.texts import arguments, texts_of
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.e2e.conftest import ROOT, label_studio, serving

FIGURES = re.compile(r"([\d.]+) s, .*fetch ([\d.]+) s, predict ([\d.]+) s, store ([\d.]+) s")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    texts = texts_of(asked.reviews, asked.tasks)
    with TemporaryDirectory() as folder:
        token = secrets.token_hex(20)
        (Path(folder) / "studio").mkdir()
        with (
            serving(asked.bundle, Path(folder) / "serve.log") as backend,
            label_studio(
                Path(folder) / "studio", token, {"LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "False"}
            ) as studio,
        ):
            studio.timeout = httpx.Timeout(3600)
            retrieved = retrieve(studio, backend, texts)
            rounds = [annotate(studio, token, asked.bundle, texts) for _ in range(asked.rounds)]
    report(len(texts), retrieved, rounds, Console(width=110))


def project_with(studio: httpx.Client, texts: list[str]) -> int:
    project: int = ok(
        studio.post("/api/projects", json={"title": "Benchmark", "label_config": TUTORIAL_CONFIG})
    )["id"]
    ok(
        studio.post(
            f"/api/projects/{project}/import",
            json=[{"uid": i, "review": text} for i, text in enumerate(texts)],
        )
    )
    return project


def retrieve(studio: httpx.Client, backend: httpx.Client, texts: list[str]) -> float:
    """Seconds of "Retrieve predictions" over all tasks."""
    project = project_with(studio, texts)
    ok(studio.post("/api/ml", json={"url": str(backend.base_url), "project": project, "title": "prelabel"}))
    begun = time.perf_counter()
    ok(
        studio.post(
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": True, "excluded": []}},
        )
    )
    seconds = time.perf_counter() - begun
    check_stored(studio, project, len(texts))
    return seconds


def annotate(studio: httpx.Client, token: str, bundle: Path, texts: list[str]) -> dict[str, float]:
    """Seconds of `prelabel annotate` over a new project with the same texts, by stage."""
    project = project_with(studio, texts)
    command = [
        sys.executable,
        "prelabel.py",
        "annotate",
        "--label-studio",
        str(studio.base_url),
        "--project",
        str(project),
        "--bundle",
        str(bundle),
    ]
    begun = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this very program
        command,
        cwd=ROOT,
        env=os.environ | {"LABEL_STUDIO_API_KEY": token},
        capture_output=True,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - begun
    figures = FIGURES.search(done.stdout)
    if done.returncode or figures is None:
        raise SystemExit(f"annotate ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    check_stored(studio, project, len(texts))
    return dict(zip(("run", "pull", "predict", "push"), map(float, figures.groups()), strict=True)) | {
        "whole command": whole
    }


def check_stored(studio: httpx.Client, project: int, expected: int) -> None:
    stored = ok(studio.get("/api/predictions", params={"project": project}))
    if not len(stored) == len({prediction["task"] for prediction in stored}) == expected:
        raise SystemExit(f"{len(stored)} predictions are stored for {expected} tasks")


def report(tasks: int, retrieved: float, rounds: list[dict[str, float]], console: Console) -> None:
    median = {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}
    table = Table(
        "",
        "seconds",
        "tasks a second",
        "× Retrieve",
        title=f"{tasks:,} tasks, {len(rounds)} rounds, {os.cpu_count()} cores",
        title_justify="left",
    )
    table.add_row('"Retrieve predictions"', f"{retrieved:.2f}", f"{tasks / retrieved:.0f}", "1")
    labels = {
        "run": "annotate, first request to last answer (median)",
        "whole command": "annotate, whole command (median)",
        "pull": "  Label Studio lists the tasks",
        "predict": "  predicting (beside the listing)",
        "push": "  Label Studio stores the predictions",
    }
    for stage, label in labels.items():
        table.add_row(
            label, f"{median[stage]:.2f}", f"{tasks / median[stage]:,.0f}", f"{retrieved / median[stage]:.1f}"
        )
    floor = median["pull"] + median["push"]
    table.add_row(
        "  Label Studio's own share (list + store)",
        f"{floor:.2f}",
        f"{tasks / floor:,.0f}",
        f"{retrieved / floor:.1f}",
    )
    console.print(table)
    console.print(
        f"annotate by round: {', '.join(format(one['run'], '.2f') + ' s' for one in rounds)}", highlight=False
    )


def ok(response: httpx.Response) -> Any:
    if not response.is_success:
        raise SystemExit(
            f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:500]}"
        )
    return response.json()


if __name__ == "__main__":
    main()
