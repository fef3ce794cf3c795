"""A classifier of fitted encoders under one head, and its publication as a bundle. Torch is optional."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from export.encoders.base import FittedEncoder, Numbers
from export.network_graph import OPSET, network_graph
from export.parity import Parity, awkward_texts, prove
from export.publish import Content, publish
from server.arrays import Floats
from server.bundle import TORCHSCRIPT, Bundle, Head
from server.engines.base import MAX_CHUNK
from server.engines.factory import open_engine
from server.engines.heads import PROBABILITIES
from server.models.tokenizer import Tokenizer
from server.offline.classifier import Classifier


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """`labels` in class order; `encoders` with their rows of the head; `head_bias` float32[classes].
    `temperature` is already divided out of both, and recorded only. `words` occur in the training texts.
    """

    labels: tuple[str, ...]
    encoders: Sequence[FittedEncoder]
    head_bias: Floats
    head: Head = "softmax"
    temperature: float = 1.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()

    def calibrated(self, temperature: float, shift: float | Numbers = 0.0) -> "FittedClassifier":
        """The same with all logits divided by `temperature`, plus `shift`, of all classes or of each."""
        return replace(
            self,
            encoders=[encoder.scaled(1 / temperature) for encoder in self.encoders],
            head_bias=(self.head_bias / temperature + shift).astype(np.float32),
            temperature=self.temperature * temperature,
        )

    def logits(self, texts: Sequence[str]) -> Numbers:
        """float64[texts, classes], by the definition."""
        return sum((encoder.logits(texts) for encoder in self.encoders), self.head_bias.astype(np.float64))

    def quick_probabilities(self, texts: Sequence[str]) -> Numbers:
        """float64[texts, classes], quickly, and within 1e-5 of the server; a quantized transformer rounds
        differently there, see `served_probabilities`.
        """
        classes = len(self.labels)
        parts = (encoder.quick_logits(texts, classes) for encoder in self.encoders)
        return probabilities_of(sum(parts, self.head_bias.astype(np.float64)), self.head)

    def probabilities(self, texts: Sequence[str]) -> Numbers:
        return probabilities_of(self.logits(texts), self.head)


def has_torch() -> bool:
    return find_spec("torch") is not None


def probabilities_of(logits: Numbers, head: Head) -> Numbers:
    """float64[rows, classes] → the same."""
    probabilities: Numbers = PROBABILITIES[head](logits).astype(np.float64)
    return probabilities


def longest_text(bundle: Bundle) -> int:
    """Words of the longest text of the parity check: more than one model call takes."""
    limits = [encoder.max_length for encoder in bundle.encoders if encoder.max_length is not None]
    return max(400, 2 * limits[0]) if limits else MAX_CHUNK + 1_000


def publish_classifier(
    classifier: FittedClassifier,
    out: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    torchscript: bool = True,
    force: bool = False,
    on_report: Callable[[Any], None] | None = None,
) -> Bundle:
    """Publish the bundle folder `out` after its parity check, with these `files` besides the network's own;
    with a model.ts if torch is installed. Raises as `publish` does.
    """
    torchscript = torchscript and has_torch() and all(each.traces for each in classifier.encoders)
    tables = all(each.has_tables for each in classifier.encoders)

    def write(folder: Path) -> Content:
        return _write(classifier, folder, torchscript=torchscript)

    def proven(bundle: Bundle) -> list[Parity]:
        texts = awkward_texts(classifier.words or ["word"], longest=longest_text(bundle))
        expected = classifier.probabilities(texts).astype(np.float32)
        engines = ["onnx"] + ["tables"] * tables + ["torchscript"] * torchscript
        return prove(bundle, Tokenizer.of(bundle).encode_all(texts), expected, engines)

    return publish(out, write, proven, files=files, torchscript=torchscript, force=force, on_report=on_report)


def served_probabilities(classifier: FittedClassifier, texts: Sequence[str]) -> Numbers:
    """float64[texts, classes], by the engine of a server on a CPU. The bundle for it is not proven, and not
    kept. Raises as `publish` does.
    """
    with TemporaryDirectory() as folder:
        bundle = publish(
            Path(folder) / "measured",
            lambda inside: _write(classifier, inside, torchscript=False),
            lambda _: [],
            torchscript=False,
        )
        engine, threads = open_engine(bundle, device="cpu"), len(os.sched_getaffinity(0))
        with Classifier(bundle, engine, threads) as served:
            return served.probabilities(served.encode(texts)).astype(np.float64)


def _write(classifier: FittedClassifier, folder: Path, *, torchscript: bool) -> Content:
    for encoder in classifier.encoders:
        encoder.write_files(folder)
    network = classifier.encoders, classifier.head_bias, classifier.head
    onnx.save(network_graph(*network), folder / "model.onnx")
    if torchscript:
        from export.torch_network import write_torch_script

        write_torch_script(*network, folder / TORCHSCRIPT)
    return {
        "format": 2,
        "labels": classifier.labels,
        "encoders": tuple(encoder.spec for encoder in classifier.encoders),
        "head": classifier.head,
        "temperature": classifier.temperature,
        "model_class": " + ".join(encoder.spec.kind for encoder in classifier.encoders),
        "opset": OPSET,
        "metrics": classifier.metrics,
    }
