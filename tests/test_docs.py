"""The Markdown files: links resolve, targets and commands exist, and the README's answer is the real one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import prelabel
from server.bundle import read_bundle
from tests.conftest import ROOT
from tests.import_graph import PAGE, page_with_graph
from tests.serving import running

PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "artifacts/imdb-cnn/*.md")
    for path in sorted(ROOT.glob(pattern))
]
HISTORY = ROOT / "CHANGELOG.md"
WRITTEN_BY_PROGRAMS = {HISTORY, ROOT / "benchmarks" / "REPORT.md"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
WIDTH = 110


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """GitHub's anchors for the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(candidate)
    return found


def broken_links(path: Path) -> Iterator[str]:
    for link in LINK.finditer(prose(path)):
        target = link[1] or link[2]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(other):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_and_anchors_resolve(path: Path) -> None:
    assert not list(broken_links(path))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One: two `x`\n\n[a](#one-two-x) [b](#three) [c](gone.md) ![d](gone.png) [e](page.md#one-two-x)\n"
    )
    assert [each.split(":")[0] for each in broken_links(page)] == ["#three", "gone.md", "gone.png"]


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if path not in WRITTEN_BY_PROGRAMS],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_lines_of_prose_are_not_longer_than_code(path: Path) -> None:
    breakable = re.compile(rf"(?!\||    )\s*\S.{{0,{WIDTH - 2}}} ")
    long = [line for line in prose(path).splitlines() if len(line) > WIDTH and breakable.match(line)]
    assert not long


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_targets_files_and_commands_that_are_named_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.MULTILINE)) <= targets
    commands = set(typer.main.get_group(prelabel.app).commands)
    assert set(re.findall(r"(?:`|^|/)prelabel ([a-z]+)", text, re.MULTILINE)) <= commands
    if path != HISTORY:
        for name in re.findall(r"prelabel bench ([a-z_]+)", text):
            assert (ROOT / "benchmarks" / f"{name}.py").exists() or name == "peers"
        named = re.findall(r"`((?:server|export|tests|benchmarks|deploy|docs)/[\w./-]+\.\w+)`", text)
        assert not [name for name in named if not (ROOT / name).exists()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def test_the_readmes_request_gets_the_readmes_answer() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    [path] = re.findall(r"^curl \S+/predict --data @(\S+)$", readme, re.MULTILINE)
    [answer] = re.findall(r"```json\n(.+?)```", readme, re.DOTALL)
    expected = json.loads(answer)
    with running(read_bundle(ROOT / "artifacts" / "imdb-cnn")) as client:
        found = client.post("/predict", content=(ROOT / path).read_bytes()).json()
    assert found["results"][0].pop("score") == pytest.approx(expected["results"][0].pop("score"), abs=1e-5)
    assert found == expected


def test_the_readmes_results_are_the_measured_ones() -> None:
    [results] = re.findall(
        r"^## Results\n(.+?)^## ", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    peers = measured("peers")["conv"]
    ours, theirs = (peers[name]["bulk_tasks_per_s"] for name in ("prelabel", "sdk_tutorial"))
    idle = measured("large_request")["idle"]
    model = read_bundle(ROOT / "artifacts" / "imdb-cnn").manifest.metrics["test"]
    for figure in (
        f"**{ours / theirs:.0f} ×**",
        f"{ours:,.0f} instead of {theirs:,.0f} tasks",
        f"**{idle['p50_ms']:.1f} ms**",
        f"{idle['p99_ms']:.1f} ms at",
        f"**{model['accuracy']:.3f}** accuracy",
        f"calibration error {model['calibration_error']:.4f}",
    ):
        assert figure in results


def measured(benchmark: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "measured" / f"{benchmark}.json").read_text("utf-8"))["figures"]


def test_the_import_graph_is_that_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_graph(page), "docs/architecture.md is out of date: run make docs"
