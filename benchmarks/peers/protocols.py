"""The peers' protocols: texts → request body; response body → label and its probability for each text."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.label_studio import body_of

Answer = tuple[str, float]


@dataclass(frozen=True)
class Protocol:
    """`body` encodes texts as a request; `answers` decodes a response, given the model's labels."""

    body: Callable[[Sequence[str]], bytes]
    answers: Callable[[bytes, Sequence[str]], list[Answer]]


def _label_studio(texts: Sequence[str]) -> bytes:
    return body_of(list(texts))


def _label_studio_reload(texts: Sequence[str]) -> bytes:
    return json.dumps(json.loads(body_of(list(texts))) | {"force_reload": True}).encode()


def _of_predictions(answer: bytes, labels: Sequence[str]) -> list[Answer]:  # noqa: ARG001 - the response has them
    return [
        (each["result"][0]["value"]["choices"][0], each["score"]) for each in json.loads(answer)["results"]
    ]


def _texts(texts: Sequence[str]) -> bytes:
    return json.dumps({"texts": texts}).encode()


def _open_inference(texts: Sequence[str]) -> bytes:
    """One text per row, which is how both servers batch."""
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
LABEL_STUDIO_RELOAD = Protocol(_label_studio_reload, _of_predictions)
"""With the SDK's option to build the model again, which Label Studio does not send."""
TEXTS = Protocol(_texts, _of_rows)
"""An object with texts, for frameworks that do not prescribe a format."""
OPEN_INFERENCE = Protocol(_open_inference, _of_outputs)
"""The Open Inference Protocol (V2) of MLServer and Triton."""
