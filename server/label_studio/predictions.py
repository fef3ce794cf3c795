"""Probabilities → predictions, in Label Studio's words.

A prediction is `{"model_version", "score", "result": [region]}` and a region `{"id", "from_name", "to_name",
"type", "value": {"choices": […]}}` (Label Studio's "Import pre-annotated data").
"""

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import Any, TypedDict

import numpy as np

from server.arrays import Bools, Floats
from server.label_studio.labeling_config import LabelingPlan
from server.scoring import Scores


class Place(TypedDict):
    """Which control is filled, for which tag."""

    from_name: str
    to_name: str
    type: str


class Region(Place):
    """`value` is `{"choices": […]}`, or what else the control has."""

    id: str
    value: dict[str, Any]


class Prediction(TypedDict, total=False):
    """Nothing in it where the model call failed or the text is too long."""

    model_version: str
    score: float
    result: list[Region]


def predictions(
    plan: LabelingPlan,
    version: str,
    texts: Sequence[tuple[str | None, ...]],
    probabilities: Floats,
    scores: Scores,
    threshold: float,
    answered: Bools | None = None,
) -> list[Prediction]:
    """One prediction for each task, from its text for each of the plan's sources.

    `probabilities` float32[present, classes] and `scores` float64[present] have a row for each text that is
    not None, in order; from `threshold` on a label is taken where several may be. Where `answered`
    bool[present] is False its task's prediction is `{}`. Of several texts the least certain gives the score.
    A task without any usable text gets an empty result with score 0, which Label Studio stores, does not ask
    for again, and sorts among the least certain.
    """
    filled = [
        (
            target.source,
            target.control.fill(probabilities, threshold),
            _region(plan, place),
            f"{version}\0{target.control.name}\0".encode(),
        )
        for place, target in enumerate(plan.targets)
    ]
    certain = scores.tolist()
    failed = set(np.flatnonzero(~answered).tolist()) if answered is not None else set[int]()
    rows = count()
    found: list[Prediction] = []
    for each in texts:
        places = [next(rows) if text is not None else None for text in each]
        if failed and not failed.isdisjoint(places):
            found.append({})
            continue
        regions: list[Region] = []
        for source, values, region, salt in filled:
            text, place = each[source], places[source]
            if text is not None and place is not None and (value := values[place]) is not None:
                regions.append({"id": _region_id(salt, text), **region, "value": value})
        score = min((certain[place] for place in places if place is not None), default=0.0)
        found.append({"model_version": version, "score": score, "result": regions})
    return found


def _region(plan: LabelingPlan, place: int) -> Place:
    """What every region of a target has in common."""
    target = plan.targets[place]
    return {
        "from_name": target.control.name,
        "to_name": plan.sources[target.source].name,
        "type": target.control.kind,
    }


def _region_id(salt: bytes, text: str) -> str:
    """Ten hex digits, the same for the same text, control and version, so that a repeated run writes the same
    file.
    """
    return hashlib.blake2b(salt + text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
