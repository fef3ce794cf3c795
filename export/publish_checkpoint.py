"""Publishes the tutorial's network as a bundle of the first format: one CNN, traced by torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.cnn import Network
from export.encoders.cnn import write_tokens
from export.folded_cnn import FoldedCNN
from export.model_files import OPSET, write_models
from export.parity import Parity, awkward_texts, prove
from export.publish import Content, publish
from export.reproducible import reproducible
from server.bundle import Bundle
from server.models.tokenizer import Tokenizer


@reproducible()
def export_bundle(
    network: Network,
    out: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    torchscript: bool = True,
    force: bool = False,
    on_report: Callable[[Any], None] | None = None,
) -> Bundle:
    """Trace `network`, check its parity and publish it as the bundle folder `out`, with these `files` besides
    the network's own; `on_report` gets the parity table. Raises as `publish` does.
    """

    def write(folder: Path) -> Content:
        write_tokens(network.tokens, network.learned, folder)
        write_models(FoldedCNN(network.cnn, network.temperature), folder)
        return {
            "labels": network.labels,
            "encoders": (network.spec,),
            "temperature": network.temperature,
            "opset": OPSET,
            "metrics": network.metrics,
        }

    return publish(
        out,
        write,
        lambda bundle: prove_network(network, bundle),
        files=files,
        torchscript=torchscript,
        force=force,
        on_report=on_report,
    )


def prove_network(network: Network, bundle: Bundle) -> list[Parity]:
    """The parity of each engine with the eager network. The bundle must hold both model files."""
    texts = awkward_texts(network.tokens, max(network.cnn.shape.widths))
    rows = Tokenizer.of(bundle).encode_all(texts)
    expected = network.cnn.predict([row.tolist() for row in rows]).numpy()
    if network.temperature != 1.0:
        scaled = np.log(expected) / network.temperature
        expected = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    return prove(bundle, rows, expected, ("torchscript", "onnx", "tables"))
