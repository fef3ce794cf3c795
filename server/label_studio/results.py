"""Tasks in, predictions out, in Label Studio's words.

A prediction is `{"model_version", "score", "result": [region]}` and a region `{"id", "from_name", "to_name", "type",
"value": {"choices": […]}}` (Label Studio's "Import pre-annotated data").
"""

import hashlib
from typing import Any

from server.arrays import Floats
from server.label_studio.config import Target
from server.scores import Score, score_of

Prediction = dict[str, Any]


def text_of(data: object, field: str) -> str | None:
    """The task's text as one string, None when it has none that is usable.

    Label Studio turns numbers of an imported CSV into numbers and takes lists of them for a `<Text>`.
    """
    value = data.get(field) if isinstance(data, dict) else None
    if isinstance(value, list):
        parts = [_scalar(part) for part in value]
        return "\n".join(part for part in parts if part is not None) if None not in parts else None
    return _scalar(value)


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def prediction(target: Target, version: str, text: str, probabilities: Floats, score: Score) -> Prediction:
    """The prediction for one text from its probabilities float32[classes]."""
    chosen = int(probabilities.argmax())
    region = {
        "id": _region_id(version, target.from_name, text),
        "from_name": target.from_name,
        "to_name": target.to_name,
        "type": "choices",
        "value": {"choices": [target.choices[chosen]]},
    }
    return {"model_version": version, "score": score_of(probabilities, score), "result": [region]}


def empty_prediction(version: str) -> Prediction:
    """For a task without usable text. Label Studio stores it, shows nothing, and sorts it among the least certain."""
    return {"model_version": version, "score": 0.0, "result": []}


def _region_id(version: str, from_name: str, text: str) -> str:
    """Ten hex digits, the same for the same text and version, so that a repeated run writes the same file."""
    return hashlib.blake2b(f"{version}\0{from_name}\0{text}".encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
