"""Writes a bundle's model files: model.ts (TorchScript) and model.onnx, with dynamic rows and lengths."""

from pathlib import Path

import onnx
import torch

from export.folded_cnn import FoldedCNN

OPSET = 18

Example = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def write_models(folded: FoldedCNN, folder: Path) -> None:
    """Trace `folded` and write both files; checks the ONNX file with `onnx.checker`."""
    widest, features = max(folded.widths), folded.filters * len(folded.widths)
    example: Example = (
        torch.zeros((2, widest + 4), dtype=torch.int32),
        torch.tensor([widest + 4, widest], dtype=torch.int32),
        torch.zeros((1, features)),
    )
    with torch.no_grad():
        torch.jit.trace(folded.eval(), example).save(folder / "model.ts")  # type: ignore[no-untyped-call]
        torch.onnx.export(
            folded,
            example,
            folder / "model.onnx",
            dynamo=False,
            opset_version=OPSET,
            # folded tables would hold V × filters × Σ widths numbers: the engine folds them when it loads
            do_constant_folding=False,
            input_names=["ids", "lengths", "carry"],
            output_names=["probabilities", "features"],
            dynamic_axes={
                "ids": {0: "rows", 1: "length"},
                "lengths": {0: "rows"},
                "carry": {0: "carried"},
                "probabilities": {0: "rows"},
                "features": {0: "rows"},
            },
        )
    onnx.checker.check_model(folder / "model.onnx", full_check=True)
