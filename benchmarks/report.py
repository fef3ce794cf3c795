"""Renders benchmarks/REPORT.md and its pictures from the saved figures: goals, tables, and the commands.

    .venv/dev/bin/python -m benchmarks.report [--out benchmarks/REPORT.md]

The same figures give the same files. A benchmark that was not run is listed with its command. To add a
benchmark, add a line to SECTIONS.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import capacity, pictures, results, tables
from benchmarks.goals import goals

Saved = Mapping[str, Mapping[str, Any]]
"""A benchmark's name → what `results.write` saved."""

FOLDER = "plots"
"""Folder of the pictures, next to the report."""


@dataclass(frozen=True)
class Picture:
    draw: Callable[[pictures.Figures, Path], None]
    shows: str

    @property
    def file(self) -> str:
        return f"{self.draw.__name__}.png"


@dataclass(frozen=True)
class Section:
    """`make` turns the benchmark's figures into Markdown. `module` is its module if it is not named like its
    figures; `by` is its command if it is no module of `benchmarks`.
    """

    benchmark: str
    title: str
    make: Callable[[Mapping[str, Any]], str]
    picture: Picture | None = None
    module: str = ""
    by: str = ""

    @property
    def command(self) -> str:
        return self.by or f"python -m benchmarks.{self.module or self.benchmark} reviews.csv"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("REPORT.md"))
    out: Path = parser.parse_args().out
    saved = {
        section.benchmark: found
        for section in SECTIONS
        if (found := results.read(section.benchmark)) is not None
    }
    drawn = draw(saved, out.parent / FOLDER)
    out.write_text(render(saved), "utf-8")
    Console(stderr=True).print(
        f"{out}: {len(saved)} of {len(SECTIONS)} benchmarks, {len(drawn)} pictures.", soft_wrap=True
    )


def draw(saved: Saved, folder: Path) -> list[Path]:
    """Draw the pictures of the saved figures and delete those without figures, which would be out of date."""
    figures = figures_of(saved)
    drawn = []
    for section in SECTIONS:
        if section.picture is not None:
            path = folder / section.picture.file
            path.unlink(missing_ok=True)
            if section.benchmark in saved:
                section.picture.draw(figures, path)
                drawn.append(path)
    return drawn


def render(saved: Saved) -> str:
    """The whole report as Markdown."""
    parts = [
        "# Benchmarks",
        *_measured_on(saved),
        "## Goals",
        _goals(saved),
        "## Capacity",
        capacity.section(saved),
    ]
    return "\n\n".join([*parts, *(_section(section, saved) for section in SECTIONS)]) + "\n"


def figures_of(saved: Saved) -> dict[str, Any]:
    return {name: found["figures"] for name, found in saved.items()}


def _measured_on(saved: Saved) -> Iterable[str]:
    """Machine, versions and commit: once if all benchmarks share them, else with the benchmarks' names."""
    for what, describe in (
        ("Machine", _machine),
        ("Versions", _versions),
        ("Commit", lambda found: f"`{found['commit']}`"),
    ):
        by_text: dict[str, list[str]] = {}
        for name, found in saved.items():
            by_text.setdefault(describe(found), []).append(name)
        for text, names in by_text.items():
            yield f"**{what}{'' if len(by_text) == 1 else ' of ' + ', '.join(names)}:** {text}"


def _machine(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}"


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def _goals(saved: Saved) -> str:
    reached = {True: "yes", False: "**no**", None: "–"}
    return tables.table(
        ("goal", "target", "measured", "reached"),
        ((goal.name, goal.wanted, goal.found, reached[goal.met]) for goal in goals(figures_of(saved))),
    )


def _section(section: Section, saved: Saved) -> str:
    heading = f"## {section.title}"
    found = saved.get(section.benchmark)
    if found is None:
        return f"{heading}\n\nnot measured: `{section.command}`"
    parts = [heading, f"`{found['command']}`, {found['time']}", section.make(found["figures"])]
    if section.picture is not None:
        parts.append(f"![{section.picture.shows}]({FOLDER}/{section.picture.file})")
    return "\n\n".join(parts)


SECTIONS = (
    Section(
        "peers",
        "Other serving frameworks",
        tables.peers,
        Picture(pictures.peers, "tasks per second of each server"),
        module="peers.run",
    ),
    Section(
        "peers_transformers",
        "Other ways to serve a transformer",
        tables.peers_transformers,
        module="peers.transformer.run",
    ),
    Section(
        "engine",
        "Engines",
        tables.engine,
        Picture(pictures.engines, "microseconds per text of each engine, and the hardware limit"),
    ),
    Section(
        "gpu",
        "GPU",
        tables.gpu,
        Picture(pictures.gpu, "reviews per second on a GPU, and first calls of a length"),
    ),
    Section(
        "gpu_transformer",
        "A transformer on a GPU",
        tables.gpu_transformer,
        by="make bench-gpu TRANSFORMER=DIR",
    ),
    Section("bandwidth", "Hardware limit", tables.bandwidth),
    Section("kernels", "Kernels for summing the tables", tables.kernels),
    Section("tokenizer", "Tokenizer", tables.tokenizer),
    Section("ngrams", "N-grams", tables.ngrams),
    Section(
        "stage_breakdown",
        "Stage breakdown",
        tables.stage_breakdown,
        Picture(pictures.stage_breakdown, "the stages of a request"),
    ),
    Section("large_request", "A large request, and single tasks during it", tables.large_request),
    Section("latency", "Latency under load", tables.latency, Picture(pictures.latency, "latency by load")),
    Section("overload", "Overload", tables.overload),
    Section("soak", "Soak test", tables.soak),
    Section(
        "scaling",
        "Scaling",
        tables.scaling,
        Picture(pictures.scaling, "throughput by clients, tasks, lengths and workers"),
    ),
    Section("bulk", "Files", tables.bulk),
    Section("ready", "Start-up", tables.ready),
    Section(
        "label_efficiency",
        "Labels and accuracy",
        tables.label_efficiency,
        by="python -m benchmarks.label_efficiency NAME=TRAIN.csv,TEST.csv,TEXT,LABEL",
    ),
    Section(
        "active_learning",
        "Annotations by the order of tasks",
        tables.active_learning,
        by="python -m benchmarks.active_learning NAME=TRAIN.csv,TEST.csv,TEXT,LABEL",
    ),
    Section("fuzz", "Fuzzing", tables.fuzz, by="make fuzz"),
)


if __name__ == "__main__":
    main()
