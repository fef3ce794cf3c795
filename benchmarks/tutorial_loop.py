"""The baseline: predicts tasks one by one, as the class of Label Studio's tutorial does.

For each task: the tokenizer's regular expressions, a dict, torch's module with its convolutions on a batch of
one, a result. The network is the bundle's own, so the predictions are the same. Dropout is off; the tutorial
leaves it on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.tokenizer import published
from export.cnn import NetworkShape, SentimentCNN
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.engines.onnx_file import read_tensors


class TutorialLoop:
    """`threads` is torch's number of threads, over which it spreads the convolutions of one text."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle = bundle
        self._threads = threads
        self._model = network_of(bundle)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        with threads(self._threads):
            return [self._prediction(text) for text in texts]

    def _prediction(self, text: str) -> dict[str, Any]:
        probabilities = self._run(torch.tensor(self.encode(text)))
        label = self._bundle.labels[int(probabilities.argmax())]
        region = {
            "from_name": "sentiment",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [label]},
        }
        return {
            "result": [region],
            "score": float(probabilities.max()),
            "model_version": self._bundle.version,
        }

    def encode(self, text: str) -> list[int]:
        cnn = cnn_of(self._bundle.encoders)
        spec = cnn.spec
        ids = [cnn.vocabulary.get(token, spec.unknown_id) for token in published(text)]
        return ids + [spec.pad_id] * (spec.min_length - len(ids))

    def probabilities(self, rows: Sequence[Ids]) -> Floats:
        """The model without the tokenizer: ids → probabilities float32[rows, classes]."""
        with threads(self._threads):
            return np.stack([self._run(torch.from_numpy(row)).numpy() for row in rows])

    @torch.inference_mode()
    def _run(self, ids: Tensor) -> Tensor:
        return torch.softmax(self._model(ids.unsqueeze(0).long()), dim=1)[0]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Sets torch's number of threads for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network_of(bundle: Bundle) -> SentimentCNN:
    """The bundle's network in eval mode, from model.onnx; its head includes the temperature."""
    tensors = {name: torch.tensor(array) for name, array in read_tensors(bundle).items()}
    (vocabulary, dimensions), filters = tensors["embedding"].shape, len(tensors["bias0"])
    cnn = SentimentCNN(
        NetworkShape(
            vocabulary, dimensions, filters, cnn_of(bundle.encoders).spec.widths, len(bundle.labels)
        ),
        pad=cnn_of(bundle.encoders).spec.pad_id,
    )
    state = {
        "embedding.weight": tensors["embedding"],
        "fc.weight": tensors["head"].T,
        "fc.bias": tensors["head_bias"],
    }
    for i, width in enumerate(cnn_of(bundle.encoders).spec.widths):
        state[f"convs.{i}.weight"] = tensors[f"taps{i}"].reshape(dimensions, width, filters).permute(2, 0, 1)
        state[f"convs.{i}.bias"] = tensors[f"bias{i}"]
    cnn.load_state_dict(state)
    return cnn.eval()
