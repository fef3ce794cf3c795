"""The contenders of `benchmarks/gpu_transformer.py`: bundles of a Hugging Face classifier in ONNX
Runtime, and the classifier itself in torch.

On `cpu` the same code uses ONNX Runtime's CPU provider and torch's CPU: a rehearsal.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.contenders import LIMIT, Contender, Run, bound, provider_of, unbound
from export.classifier import publish_classifier
from export.hugging_face.eager import EagerClassifier, load_classifier
from export.publish_transformer import TransformerOptions, fitted_classifier, reduced_transformer
from export.reproducible import reproducible
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.transformer.encoder import Precision, TransformerEncoder
from server.engines.devices import CudaOptions
from server.engines.onnx_cuda import grid_of
from server.engines.torch_device import TorchDevice

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
"""The precisions that a GPU serves, and torch's names for them."""

KINDS = "onnx", "onnx not bound", "torch eager", "torch.compile"

NAMES = tuple(f"{kind} {precision}" for precision in DTYPES for kind in KINDS)
"""Those of the contenders."""


@reproducible()
def export(
    folder: Path, eager: EagerClassifier, out: Path, max_length: int | None
) -> dict[Precision, Bundle]:
    """The classifier of `folder` as a bundle in each precision, below `out`. Raises BadInput, BadSetting,
    NotProven.
    """
    options = TransformerOptions(max_length=max_length)
    encoder, classifier = fitted_classifier(folder, eager, options)
    return {
        precision: publish_classifier(
            replace(classifier, encoders=[reduced_transformer(encoder, precision)]),
            out / precision,
            torchscript=False,
        )
        for precision in DTYPES
    }


def contenders(
    folder: Path, bundle: Bundle, precision: Precision, device: str, options: CudaOptions
) -> Mapping[str, Contender]:
    """The contenders of one precision, by name; `bundle` is that of the classifier in `folder`."""
    pad_id = transformer_of(bundle).spec.pad_id
    in_torch = partial(run_in_torch, folder, pad_id, device, DTYPES[precision])
    opens: tuple[Contender, ...] = (
        lambda: bound(bundle, provider_of(device, options.mem_limit), device, grid_of(bundle, options)),
        lambda: unbound(bundle, provider_of(device, LIMIT)),
        in_torch,
        partial(in_torch, compiled=True),
    )
    return {f"{kind} {precision}": each for kind, each in zip(KINDS, opens, strict=True)}


def transformer_of(bundle: Bundle) -> TransformerEncoder:
    (encoder,) = bundle.encoders
    if not isinstance(encoder, TransformerEncoder):
        raise TypeError(f"{bundle.path} has no transformer")
    return encoder


class TorchClassifier(nn.Module):
    """The classifier with its head: (ids int64[rows, length], mask int64[rows, length]) → probabilities
    float32[rows, classes].
    """

    def __init__(self, eager: EagerClassifier) -> None:
        super().__init__()
        self.pooled = eager.encoder.pooled
        self.weights = nn.Parameter(torch.from_numpy(eager.weights), requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(eager.bias), requires_grad=False)
        self.several = eager.head == "sigmoid"

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = (self.pooled(ids, mask) @ self.weights + self.bias).float()
        return logits.sigmoid() if self.several else logits.softmax(dim=1)


def run_in_torch(
    folder: Path, pad_id: int, device: str, dtype: torch.dtype, *, compiled: bool = False
) -> Run:
    """torch with the attention that transformers chooses for it, where the architecture has that."""
    torch_device = TorchDevice(device)
    eager = load_classifier(folder)
    with suppress(ValueError):
        model: Any = eager.encoder.pooled.model
        model.set_attn_implementation("sdpa")
    network: Any = TorchClassifier(eager).eval().to(device, dtype)
    if compiled:
        network = torch.compile(network, dynamic=True)

    def run(ids: Ids, lengths: Ids) -> Floats:
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        padded = np.where(mask, ids, pad_id).astype(np.int64)
        with torch.inference_mode(), torch_device.context():
            probabilities: Floats = (
                network(torch_device.upload(padded), torch_device.upload(mask)).cpu().numpy()
            )
            return probabilities

    return run
