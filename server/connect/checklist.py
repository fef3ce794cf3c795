"""The result of `prelabel connect`, a line a thing."""

from dataclasses import dataclass
from typing import Literal

from rich.console import Console


@dataclass(frozen=True)
class Line:
    """✓ holds, ✗ does not hold, – was left out or is worth knowing."""

    mark: Literal["✓", "✗", "–"]
    text: str
    remedy: str = ""


COLOURS = {"✓": "green", "✗": "red", "–": "dim"}


def holds(text: str) -> Line:
    return Line("✓", text)


def fails(text: str, remedy: str) -> Line:
    return Line("✗", text, remedy)


def aside(text: str) -> Line:
    return Line("–", text)


def show(line: Line, console: Console) -> None:
    """Plain words: nothing in them is taken for markup."""
    console.print(line.mark, style=COLOURS[line.mark], end=" ")
    console.print(line.text, markup=False, highlight=False, soft_wrap=True)
    if line.remedy:
        console.print(f"  → {line.remedy}", markup=False, highlight=False, soft_wrap=True)
