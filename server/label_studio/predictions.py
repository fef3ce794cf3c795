"""Turns probabilities into predictions as Label Studio stores them.

A prediction is `{"model_version", "score", "result": [region]}` and a region `{"id", "from_name", "to_name",
"type", "value": {"choices": […]}}` (Label Studio's "Import pre-annotated data").
"""

import hashlib
from collections.abc import Sequence
from itertools import count, islice
from typing import Any, TypedDict

from server.arrays import Bools, Floats
from server.label_studio.labeling_config import ControlBinding, LabelingPlan, Texts
from server.scoring import Scores


class RegionHead(TypedDict):
    """The parts that all regions of one control share: the control, the object tag, and the kind."""

    from_name: str
    to_name: str
    type: str


class Region(RegionHead):
    """`value` is `{"choices": […]}`, or the key of another kind of control."""

    id: str
    value: dict[str, Any]


class Prediction(TypedDict, total=False):
    """Empty where the model call failed or a text is too long."""

    model_version: str
    score: float
    result: list[Region]


def predictions(
    plan: LabelingPlan,
    version: str,
    texts: Sequence[Texts | None],
    probabilities: Floats,
    scores: Scores,
    threshold: float,
    answered: Bools | None = None,
) -> list[Prediction]:
    """One prediction for each task, in order.

    `texts` holds a task's text for each field of the plan, or None for a task to leave out, whose prediction
    is `{}`. `probabilities` float32[present, classes] and `scores` float64[present] have a row for each text
    that is not None, in order; `answered` bool[present] is False where the model call failed, and that task's
    prediction is `{}`. A control with several choices gets the labels whose probability is at least
    `threshold`.

    The least certain text of a task gives its score. A task without any usable text gets an empty result and
    score 0: Label Studio stores it, does not ask again, and sorts the task among the least certain.
    """
    rows_of_fields: list[list[int]] = [[] for _ in plan.fields]
    row = count()
    for each in texts:
        for rows, text in zip(rows_of_fields, each or (), strict=False):
            if text is not None:
                rows.append(next(row))
    columns = [
        (
            binding.field,
            iter(binding.control.fill(probabilities[rows_of_fields[binding.field]], threshold)),
            _head(plan, binding),
            f"{version}\0{binding.control.name}\0".encode(),
        )
        for binding in plan.bindings
    ]
    certainty = iter(scores.tolist())
    missing = iter([False] * len(probabilities) if answered is None else (~answered).tolist())
    found: list[Prediction] = []
    for each in texts:
        if each is None:
            found.append({})
            continue
        encoded = [None if text is None else text.encode("utf-8", "surrogatepass") for text in each]
        regions: list[Region] = []
        for field, values, head, salt in columns:
            if (words := encoded[field]) is not None and (value := next(values)) is not None:
                regions.append({"id": _region_id(salt, words), **head, "value": value})
        present = sum(text is not None for text in each)
        score = min(islice(certainty, present), default=0.0)
        failed = any(list(islice(missing, present)))
        found.append({} if failed else {"model_version": version, "score": score, "result": regions})
    return found


def _head(plan: LabelingPlan, binding: ControlBinding) -> RegionHead:
    return {
        "from_name": binding.control.name,
        "to_name": plan.fields[binding.field].name,
        "type": binding.control.kind,
    }


def _region_id(salt: bytes, text: bytes) -> str:
    """Ten hex digits. The same text, control and version give the same id, so that a repeated run writes the
    same file.
    """
    digest = hashlib.blake2b(salt, digest_size=5)
    digest.update(text)  # without a copy of a long text for each control
    return digest.hexdigest()
