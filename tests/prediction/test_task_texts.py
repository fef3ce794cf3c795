"""Reading the texts of tasks, a piece at a time."""

from collections.abc import Iterator
from typing import Any

import pytest

from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.prediction import task_texts
from server.prediction.task_texts import TaskTexts, read_tasks, size_of

PLAN = read_plan(TUTORIAL_CONFIG, ("Negative", "Positive"), {})
PATH = "$a" + ".b" * 99
NESTED = read_plan(TUTORIAL_CONFIG.replace("$review", PATH), ("Negative", "Positive"), {})


@pytest.mark.parametrize(
    ("plan", "task", "most"),
    [
        (PLAN, {"review": "x" * 1_000}, task_texts.PIECE // 1_000),
        (PLAN, {"other": "x" * 1_000}, task_texts.PIECE // task_texts.STEP + 1),
        (NESTED, {"a": 1}, task_texts.PIECE // (100 * task_texts.STEP) + 1),
    ],
)
def test_a_piece_is_bounded_by_characters_and_by_steps(plan: Any, task: dict[str, str], most: int) -> None:
    taken = 0

    def take() -> Iterator[Any]:
        nonlocal taken
        for _ in range(10 * most):
            taken += 1
            yield task

    read, tasks = TaskTexts(), take()
    assert read_tasks(read, plan, tasks, 2_000)
    assert taken == len(read.tasks) <= most
    while read_tasks(read, plan, tasks, 2_000):
        assert taken == len(read.tasks)
    assert len(read.tasks) == 10 * most
    assert read.rows == (10 * most if "review" in task else 0)


def test_a_text_that_is_too_long_is_counted() -> None:
    read = TaskTexts()
    tasks = [{"review": text} for text in ("good", "x" * 11, "")]
    assert not read_tasks(read, PLAN, iter(tasks), 10)
    assert read == TaskTexts([("good",), None, ("",)], rows=2, too_long=1, has_values=True)


def test_the_characters_of_a_list_count() -> None:
    assert size_of([("abc", None, 7), (["<p>" * 1_000, 1],)]) == 3 + 3_000 + 2
