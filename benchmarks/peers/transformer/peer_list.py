"""The peers that classify with a transformer: how each is started, and its settings, the best of those tried
on two cores.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.label_studio import body_of
from benchmarks.peers.peer_list import GUNICORN, Peer
from benchmarks.peers.protocols import LABEL_STUDIO, OPEN_INFERENCE, TEXTS, Answer, Protocol

PROGRAMS = "benchmarks.peers.transformer"
SERVE = f"{PROGRAMS}.serve"

FLOAT32, INT8 = "float32", "int8"


@dataclass(frozen=True)
class TransformerPeer(Peer):
    """`program` measures a peer without a server. `batch` is the number of texts that are padded together in
    their order, or sorted by length; 0 if the peer chooses by itself. `own` is false for peers whose
    function, tokenizer and ONNX Runtime, is this benchmark's. `reference` marks peers that are measured for
    the time of a single text.
    """

    program: tuple[str, ...] = ()
    batch: int = 0
    precision: str = FLOAT32
    own: bool = True
    reference: bool = False

    @property
    def reads_onnx(self) -> bool:
        """Whether it reads optimum's ONNX export."""
        return self.home == "optimum" or not self.own


def labeling_config(labels: Sequence[str]) -> str:
    choices = "".join(f'<Choice value="{escape(label)}"/>' for label in labels)
    return (
        '<View><Text name="text" value="$review"/>'
        f'<Choices name="section" toName="text" choice="single">{choices}</Choices></View>'
    )


def _of_pairs(answer: bytes, labels: Sequence[str]) -> list[Answer]:  # noqa: ARG001 - the response has them
    return [(label, score) for label, score in json.loads(answer)]


def _infinity(texts: Sequence[str]) -> bytes:
    return json.dumps({"model": "model", "input": texts}).encode()


def _of_infinity(answer: bytes, labels: Sequence[str]) -> list[Answer]:  # noqa: ARG001 - the response has them
    rows: list[list[dict[str, Any]]] = json.loads(answer)["data"]
    return [
        max(((each["label"], each["score"]) for each in row), key=lambda each: float(each[1])) for row in rows
    ]


IN_PROCESS = Protocol(TEXTS.body, _of_pairs)
INFINITY = Protocol(_infinity, _of_infinity)


def peers_of(labels: Sequence[str] = ()) -> tuple[TransformerPeer, ...]:
    """The peers for a model with these labels, which Label Studio's requests name."""
    config = labeling_config(labels)
    label_studio = Protocol(lambda texts: body_of(list(texts), config), LABEL_STUDIO.answers)
    prelabel = ("{python}", "prelabel.py", "serve", "--bundle", "{bundle}", "--port", "{port}")
    in_process = ("{python}", "-m", f"{PROGRAMS}.inprocess")
    return (
        TransformerPeer("prelabel", label_studio, "defaults", prelabel),
        TransformerPeer("prelabel_int8", label_studio, "defaults, int8", prelabel, batch=1, precision=INT8),
        TransformerPeer(
            "onnx_loop",
            IN_PROCESS,
            "session.run text by text, default threads (2)",
            program=(*in_process, "onnx"),
            batch=1,
            package="onnxruntime",
            home="optimum",
            reference=True,
        ),
        TransformerPeer(
            "onnx_loop_1",
            IN_PROCESS,
            "session.run text by text, 1 thread",
            program=(*in_process, "onnx", "--threads", "1"),
            batch=1,
            package="onnxruntime",
            home="optimum",
            reference=True,
        ),
        TransformerPeer(
            "pipeline_1",
            IN_PROCESS,
            "torch, batch_size=1, 2 threads",
            program=(*in_process, "transformers"),
            batch=1,
            package="transformers",
            home="transformers",
        ),
        TransformerPeer(
            "pipeline",
            IN_PROCESS,
            "torch, texts sorted by length, batch_size=8, 2 threads",
            program=(*in_process, "transformers", "--batch", "8", "--sort"),
            batch=8,
            package="transformers",
            home="transformers",
        ),
        TransformerPeer(
            "optimum",
            IN_PROCESS,
            "ORTModelForSequenceClassification in a pipeline, O2, batch_size=1, 2 threads",
            program=(*in_process, "optimum"),
            batch=1,
            package="optimum",
            home="optimum",
        ),
        TransformerPeer(
            "infinity",
            INFINITY,
            "engine torch, batches of up to 32",
            (
                *("{bin}/infinity_emb", "v2", "--model-id", "{folder}/hf", "--served-model-name", "model"),
                *("--engine", "torch", "--device", "cpu", "--batch-size", "32", "--no-bettertransformer"),
                *("--no-model-warmup", "--host", "127.0.0.1", "--port", "{port}"),
            ),
            path="/classify",
            package="infinity-emb",
            home="infinity",
        ),
        TransformerPeer(
            "sdk_bert",
            label_studio,
            "the example bert_classifier: a pipeline, text by text; gunicorn, 1 process, 8 threads",
            (*GUNICORN, "--workers", "1", "--threads", "8", f"{SERVE}.sdk_bert:app"),
            batch=1,
            package="label-studio-ml",
        ),
        TransformerPeer(
            "mosec",
            TEXTS,
            "ONNX Runtime, 2 processes, two texts at a time, no batches",
            (
                *("{python}", "-m", f"{SERVE}.mosec", "--address", "127.0.0.1", "--port", "{port}"),
                *("--timeout", "60000"),
            ),
            path="/inference",
            health="/",
            batch=1,
            package="mosec",
            home="mosec_onnx",
            own=False,
        ),
        TransformerPeer(
            "litserve",
            TEXTS,
            "ONNX Runtime, 2 processes, two texts at a time, no batches",
            ("{python}", "-m", f"{SERVE}.litserve"),
            batch=1,
            package="litserve",
            home="litserve_onnx",
            own=False,
        ),
        TransformerPeer(
            "triton",
            OPEN_INFERENCE,
            "ONNX Runtime, two texts at a time, no padding",
            ("{python}", "-m", f"{SERVE}.triton"),
            path="/v2/models/network/infer",
            health="/v2/models/network/ready",
            batch=1,
            package="nvidia-pytriton",
            home="triton_onnx",
            own=False,
            # as in benchmarks.peers.peer_list
            python="/usr/bin/python3.11",
        ),
    )
