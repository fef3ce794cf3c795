"""Reads the annotators' labels from Label Studio's JSON export.

An exported task is `{"id", "data": {…}, "annotations": [{"result": [region…], "was_cancelled",
"ground_truth", …}], …}` (Label Studio's "Export annotations", JSON). A region names its control in
`from_name`; its `value` holds the label.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from server.errors import BadInput


def is_exported(row: object) -> bool:
    """Whether a row of a file is a task of Label Studio's JSON export."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("annotations"), list)
        and isinstance(row.get("data"), dict)
    )


def controls_of(task: dict[str, Any]) -> set[str]:
    """Names of the controls that annotators of this task used."""
    return {
        str(region.get("from_name")) for annotation in _submitted(task) for region in _regions(annotation)
    }


def label_of(task: dict[str, Any], control: str) -> str | None:
    """The label that annotators gave with `control`: the ground truth if there is one, else the most
    frequent. None if there is no label, or if several are equally frequent. Cancelled (skipped) annotations
    do not count.

    Raises BadInput for an annotation with several labels.
    """
    votes: Counter[str] = Counter()
    for annotation in _submitted(task):
        labels = {
            label
            for region in _regions(annotation)
            if region.get("from_name") == control
            for label in _labels(region.get("value"))
        }
        if len(labels) > 1:
            raise BadInput(
                f'task {task.get("id")}: "{control}" holds several labels ({", ".join(sorted(labels))}); '
                "this network learns one label per text."
            )
        if labels and annotation.get("ground_truth") is True:
            return labels.pop()
        votes.update(labels)
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _submitted(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for annotation in task["annotations"]:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            yield annotation


def _regions(annotation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    result = annotation.get("result")
    if isinstance(result, list):
        yield from (region for region in result if isinstance(region, dict))


def _labels(value: object) -> Iterator[str]:
    """The labels in a region's value: the choices, the last step of each taxonomy path, the rating, the
    number.
    """
    if not isinstance(value, dict):
        return
    choices, paths = (
        value[kind] if isinstance(value.get(kind), list) else [] for kind in ("choices", "taxonomy")
    )
    last_steps = [path[-1] for path in paths if isinstance(path, list) and path]
    for label in (*choices, *last_steps, value.get("rating"), value.get("number")):
        if isinstance(label, str | int | float):
            yield str(label)
