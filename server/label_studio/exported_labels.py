"""What annotators said: the label of a task in Label Studio's own JSON export.

An exported task is `{"id", "data": {…}, "annotations": [{"result": [region…], "was_cancelled",
"ground_truth", …}], …}` (Label Studio's "Export annotations", JSON); a region names its control in
`from_name` and holds its answer in `value`.
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
    """The label that annotators gave with `control`: a ground truth's, else the most frequent; None for a
    tie, or when there is none.

    Cancelled (skipped) annotations do not count. Raises BadInput for an annotation with several labels.
    """
    votes: Counter[str] = Counter()
    for annotation in _submitted(task):
        given = {
            label
            for region in _regions(annotation)
            if region.get("from_name") == control
            for label in _labels(region.get("value"))
        }
        if len(given) > 1:
            raise BadInput(
                f'task {task.get("id")}: "{control}" holds several labels ({", ".join(sorted(given))}); this '
                "network learns one label per text."
            )
        if given and annotation.get("ground_truth") is True:
            return given.pop()
        votes.update(given)
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
    yield from (region for region in result if isinstance(region, dict)) if isinstance(result, list) else ()


def _labels(value: object) -> Iterator[str]:
    """The answers in a region's value: of `<Choices>` each, of `<Taxonomy>` the last step of each path, of
    `<Rating>` and `<Number>` the number.
    """
    if not isinstance(value, dict):
        return
    choices, paths = (
        value[kind] if isinstance(value.get(kind), list) else [] for kind in ("choices", "taxonomy")
    )
    found = [
        *choices,
        *(path[-1] for path in paths if isinstance(path, list) and path),
        value.get("rating"),
        value.get("number"),
    ]
    yield from (str(each) for each in found if isinstance(each, str | int | float))
