"""A bundle as the peers read it: a folder with model.onnx, vocab.txt, facts.json and, for torch, weights.npz."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conv import conv_onnx, state_of
from server.bundle import Bundle

MODELS = ("conv", "folded")
"""The network as it is usually exported, and the bundle's own graph: one table each, so that what the graph
gains and what the server gains are told apart.
"""


def write_model(bundle: Bundle, model: str, folder: Path) -> None:
    manifest = bundle.manifest
    facts = {
        "model": model, "labels": manifest.labels, "unknown": manifest.unknown_id, "pad": manifest.pad_id, "min_length": manifest.min_length,
        "widths": manifest.widths, "features": manifest.features,
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts))
    shutil.copy(bundle.file("vocab.txt"), folder)
    if model == "conv":
        (folder / "model.onnx").write_bytes(conv_onnx(bundle))
        weights: dict[str, Any] = {**state_of(bundle)}
        np.savez(folder / "weights.npz", **weights)
    else:
        shutil.copy(bundle.file("model.onnx"), folder)
