"""Reads the texts of tasks, by a labeling plan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.label_studio.labeling_config import LabelingPlan, Texts

PIECE = 2_000_000
"""Characters that are read before others have their turn, and cancellation takes effect: about 10 ms."""
MOST_PARTS = 10_000
"""Elements of a list whose characters are counted; as many are many anyway."""
STEP = 50
"""Characters that can be read in the time that one step of a path takes."""


class Tasks(Protocol):
    """The `data` of each task of a request: a list, or a collection that takes long to iterate."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


@dataclass
class TaskTexts:
    """The texts of a request's tasks; None for a task with a text that is too long. `rows` counts texts;
    `has_values`: whether any task has a value in a field of the plan.
    """

    tasks: list[Texts | None] = field(default_factory=list)
    rows: int = 0
    too_long: int = 0
    has_values: bool = False


def read_tasks(read: TaskTexts, plan: LabelingPlan, tasks: Iterator[Any], max_text: int) -> bool:
    """Adds the texts of the next tasks to `read`, about a PIECE; False when no task is left. `max_text` is
    the maximum of characters in a field, markup included.
    """
    characters = 0
    for task in tasks:
        values = plan.look_up(task)
        read.has_values = read.has_values or any(value is not None for each in values for value in each)
        joined = plan.join(values)
        # count the markup too, because parsing it takes the time
        if any(text is not None and len(text) > max_text for text in joined):
            read.tasks.append(None)
            read.too_long += 1
        else:
            texts = plan.show(joined)
            read.tasks.append(texts)
            read.rows += sum(text is not None for text in texts)
        characters += plan.steps * STEP + characters_of(joined)
        if characters > PIECE:
            return True
    return False


def size_of(values: Iterable[tuple[Any, ...]]) -> int:
    """Characters, and elements of lists, in the fields of tasks."""
    return sum(_size(value) for each in values for value in each)


def _size(value: object) -> int:
    if isinstance(value, list):
        return len(value) + sum(len(part) for part in value[:MOST_PARTS] if isinstance(part, str))
    return len(value) if isinstance(value, str) else 0


def characters_of(texts: Texts | None) -> int:
    return sum(len(text) for text in texts if text is not None) if texts is not None else 0
