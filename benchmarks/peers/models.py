"""Writes a bundle in the peers' format: a folder with model.onnx, vocab.txt, facts.json; weights.npz for
torch.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conv import conv_onnx, state_of
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of

MODELS = ("conv", "folded")
"""The common export with Conv, and the bundle's own graph: one table for each, which separates the gain of
the graph from that of the server.
"""


def write_model(bundle: Bundle, model: str, folder: Path) -> None:
    manifest, spec = bundle.manifest, cnn_of(bundle.encoders).spec
    facts = {
        "model": model,
        "labels": manifest.labels,
        "unknown": spec.unknown_id,
        "pad": spec.pad_id,
        "min_length": spec.min_length,
        "widths": spec.widths,
        "features": spec.features,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    shutil.copy(bundle.file("vocab.txt"), folder)
    if model == "conv":
        (folder / "model.onnx").write_bytes(conv_onnx(bundle))
        weights: dict[str, Any] = {**state_of(bundle)}
        np.savez(folder / "weights.npz", **weights)
    else:
        shutil.copy(bundle.file("model.onnx"), folder)
