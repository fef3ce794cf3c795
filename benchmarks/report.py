"""benchmarks/REPORT.md: the goals, every benchmark's table with its command, and pictures, from the figures
that were kept.

    .venv/dev/bin/python -m benchmarks.report [--out benchmarks/REPORT.md]

The same figures make the same files. What was not measured is told with the command that measures it. A
further benchmark is one more line of SECTIONS.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import capacity, pictures, results, tables
from benchmarks.goals import goals

Kept = Mapping[str, Mapping[str, Any]]
"""A benchmark's name → what `results.write` kept of it."""

FOLDER = "plots"
"""Of the pictures, beside the report."""


@dataclass(frozen=True)
class Picture:
    draw: Callable[[pictures.Figures, Path], None]
    shows: str

    @property
    def file(self) -> str:
        return f"{self.draw.__name__}.png"


@dataclass(frozen=True)
class Section:
    """`make` makes Markdown of the benchmark's figures; `module` runs it, where it is named otherwise than
    its figures; `by` does, where it is no benchmark.
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
    kept = {
        section.benchmark: found
        for section in SECTIONS
        if (found := results.read(section.benchmark)) is not None
    }
    drawn = draw(kept, out.parent / FOLDER)
    out.write_text(render(kept), "utf-8")
    Console(stderr=True).print(
        f"{out}: {len(kept)} of {len(SECTIONS)} benchmarks, {len(drawn)} pictures.", soft_wrap=True
    )


def draw(kept: Kept, folder: Path) -> list[Path]:
    """The pictures of what was measured; those of other figures are removed, so that none is shown that no
    longer holds.
    """
    figures = figures_of(kept)
    drawn = []
    for section in SECTIONS:
        if section.picture is not None:
            path = folder / section.picture.file
            path.unlink(missing_ok=True)
            if section.benchmark in kept:
                section.picture.draw(figures, path)
                drawn.append(path)
    return drawn


def render(kept: Kept) -> str:
    """The whole report as Markdown."""
    parts = [
        "# Benchmarks",
        *_measured_on(kept),
        "## Goals",
        _goals(kept),
        "## Capacity",
        capacity.section(kept),
    ]
    return "\n\n".join([*parts, *(_section(section, kept) for section in SECTIONS)]) + "\n"


def figures_of(kept: Kept) -> dict[str, Any]:
    return {name: found["figures"] for name, found in kept.items()}


def _measured_on(kept: Kept) -> Iterable[str]:
    """What all benchmarks share stands once; where they differ it says whose it is."""
    for what, tell in (
        ("Machine", _machine),
        ("Versions", _versions),
        ("Commit", lambda found: f"`{found['commit']}`"),
    ):
        by_text: dict[str, list[str]] = {}
        for name, found in kept.items():
            by_text.setdefault(tell(found), []).append(name)
        for text, names in by_text.items():
            yield f"**{what}{'' if len(by_text) == 1 else ' of ' + ', '.join(names)}:** {text}"


def _machine(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}"


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def _goals(kept: Kept) -> str:
    said = {True: "yes", False: "**no**", None: "–"}
    return tables.table(
        ("goal", "wanted", "found", "reached"),
        ((goal.name, goal.wanted, goal.found, said[goal.met]) for goal in goals(figures_of(kept))),
    )


def _section(section: Section, kept: Kept) -> str:
    heading = f"## {section.title}"
    found = kept.get(section.benchmark)
    if found is None:
        return f"{heading}\n\nnot measured: `{section.command}`"
    parts = [heading, f"`{found['command']}`, {found['time']}", section.make(found["figures"])]
    if section.picture is not None:
        parts.append(f"![{section.picture.shows}]({FOLDER}/{section.picture.file})")
    return "\n\n".join(parts)


SECTIONS = (
    Section(
        "peers",
        "Other ways to serve the same network",
        tables.peers,
        Picture(pictures.peers, "tasks a second of each server"),
        module="peers.run",
    ),
    Section(
        "engine",
        "Engines",
        tables.engine,
        Picture(pictures.engines, "microseconds a text of each engine, and the machine's limit"),
    ),
    Section(
        "gpu",
        "On a GPU",
        tables.gpu,
        Picture(pictures.gpu, "reviews a second on a GPU, and calls at new lengths"),
    ),
    Section("bandwidth", "What the machine allows", tables.bandwidth),
    Section("kernels", "Ways to add up the tables", tables.kernels),
    Section("tokenizer", "Tokenizer", tables.tokenizer),
    Section(
        "stage_breakdown",
        "Where the microseconds go",
        tables.stage_breakdown,
        Picture(pictures.stage_breakdown, "the stages of a request"),
    ),
    Section("large_request", "A large request, and single tasks beside it", tables.large_request),
    Section("latency", "Latency under load", tables.latency, Picture(pictures.latency, "latency by load")),
    Section("overload", "More than the server can answer", tables.overload),
    Section("soak", "Everything at once for half an hour", tables.soak),
    Section(
        "scaling",
        "Clients, tasks, lengths, workers",
        tables.scaling,
        Picture(pictures.scaling, "rates by clients, tasks, lengths and workers"),
    ),
    Section("bulk", "Files", tables.bulk),
    Section("ready", "From the start to the first answer", tables.ready),
    Section("fuzz", "Fuzzing", tables.fuzz, by="make fuzz"),
)


if __name__ == "__main__":
    main()
