"""The checklist that `prelabel connect` prints: one line per finding."""

from dataclasses import dataclass
from typing import Literal

from rich.console import Console


@dataclass(frozen=True)
class Line:
    """✓ as it should be, ✗ wrong, – skipped or worth knowing."""

    mark: Literal["✓", "✗", "–"]
    text: str
    remedy: str = ""


COLOURS = {"✓": "green", "✗": "red", "–": "dim"}


def passed(text: str) -> Line:
    return Line("✓", text)


def failed(text: str, remedy: str) -> Line:
    return Line("✗", text, remedy)


def note(text: str) -> Line:
    return Line("–", text)


def show(line: Line, console: Console) -> None:
    """Print the line as it is: square brackets in it are not markup."""
    console.print(line.mark, style=COLOURS[line.mark], end=" ")
    console.print(line.text, markup=False, highlight=False, soft_wrap=True)
    if line.remedy:
        console.print(f"  → {line.remedy}", markup=False, highlight=False, soft_wrap=True)
