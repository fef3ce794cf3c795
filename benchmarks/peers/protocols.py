"""What is said to each kind of server: texts → the body of a request, the body of an answer → for each text
its label and that label's probability.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.label_studio import body_of

Answer = tuple[str, float]


@dataclass(frozen=True)
class Protocol:
    """`answers` is given the model's labels too."""

    body: Callable[[Sequence[str]], bytes]
    answers: Callable[[bytes, Sequence[str]], list[Answer]]


def _label_studio(texts: Sequence[str]) -> bytes:
    return body_of(list(texts))


def _label_studio_anew(texts: Sequence[str]) -> bytes:
    return json.dumps(json.loads(body_of(list(texts))) | {"force_reload": True}).encode()


def _of_predictions(answer: bytes, labels: Sequence[str]) -> list[Answer]:  # noqa: ARG001 - they are in the answer
    return [
        (each["result"][0]["value"]["choices"][0], each["score"]) for each in json.loads(answer)["results"]
    ]


def _texts(texts: Sequence[str]) -> bytes:
    return json.dumps({"texts": texts}).encode()


def _open_inference(texts: Sequence[str]) -> bytes:
    """Both take one text a row, for so they batch."""
    return json.dumps(
        {"inputs": [{"name": "texts", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}]}
    ).encode()


def _likeliest(rows: Sequence[Sequence[float]], labels: Sequence[str]) -> list[Answer]:
    return [max(zip(labels, row, strict=True), key=lambda each: each[1]) for row in rows]


def _of_rows(answer: bytes, labels: Sequence[str]) -> list[Answer]:
    found: Any = json.loads(answer)
    return _likeliest(found["probabilities"] if isinstance(found, dict) else found, labels)


def _of_outputs(answer: bytes, labels: Sequence[str]) -> list[Answer]:
    numbers = json.loads(answer)["outputs"][0]["data"]
    return _likeliest([numbers[i : i + len(labels)] for i in range(0, len(numbers), len(labels))], labels)


LABEL_STUDIO = Protocol(_label_studio, _of_predictions)
LABEL_STUDIO_ANEW = Protocol(_label_studio_anew, _of_predictions)
"""With the SDK's own wish for a model built anew, which Label Studio does not send."""
TEXTS = Protocol(_texts, _of_rows)
"""An object with texts, for frameworks that leave the form to the author."""
OPEN_INFERENCE = Protocol(_open_inference, _of_outputs)
"""The Open Inference Protocol (V2) of MLServer and Triton."""
