"""Reads a Dockerfile: instructions by stage, with continued lines joined."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    stage: str
    """Name of the stage; "" before the first."""
    name: str
    words: str


def read(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], ""
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, words = line.split(None, 1)
        if name == "FROM":
            stage = words.split(" AS ")[1]
        found.append(Instruction(stage, name, " ".join(words.split())))
    return found


def own(path: Path, name: str, stage: str | None = None) -> list[str]:
    """The arguments of all instructions of this name, in one stage or in all."""
    return [each.words for each in read(path) if each.name == name and stage in (None, each.stage)]
