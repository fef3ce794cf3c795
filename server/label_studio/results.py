"""Probabilities → predictions, in Label Studio's words.

A prediction is `{"model_version", "score", "result": [region]}` and a region `{"id", "from_name", "to_name", "type",
"value": {"choices": […]}}` (Label Studio's "Import pre-annotated data").
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from server.arrays import Floats
from server.label_studio.config import Plan
from server.scores import Scoring, score_of

Prediction = dict[str, Any]


def prediction(plan: Plan, version: str, texts: Sequence[str | None], answers: Sequence[Floats | None], scoring: Scoring) -> Prediction:
    """The prediction for one task, from its text and probabilities float32[classes] for each of the plan's sources.

    Of several texts the least certain gives the score. A task without any usable text gets an empty result with score 0, which
    Label Studio stores, does not ask for again, and sorts among the least certain.
    """
    regions = []
    for target in plan.targets:
        text, probabilities, control = texts[target.source], answers[target.source], target.control
        value = control.value(probabilities, scoring.threshold) if probabilities is not None else None
        if text is not None and value is not None:
            to_name = plan.sources[target.source].name
            identity = _region_id(version, control.name, text)
            regions.append({"id": identity, "from_name": control.name, "to_name": to_name, "type": control.kind, "value": value})
    scores = [score_of(probabilities, scoring.score) for probabilities in answers if probabilities is not None]
    return {"model_version": version, "score": min(scores, default=0.0), "result": regions}


def _region_id(version: str, from_name: str, text: str) -> str:
    """Ten hex digits, the same for the same text and version, so that a repeated run writes the same file."""
    return hashlib.blake2b(f"{version}\0{from_name}\0{text}".encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
