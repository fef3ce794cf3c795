"""Eager encoders → ONNX and TorchScript, with dynamic rows and lengths."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch

from export.encoders.transformer import IDS, MASK, POOLED, PREFIX
from export.hugging_face.eager import EagerEncoder
from export.hugging_face.rewriting import rewritten
from export.network_graph import OPSET
from server.errors import BadInput

EXAMPLE = 3, 11
"""Rows and tokens of the traced call."""


def to_onnx(encoder: EagerEncoder) -> onnx.ModelProto:
    """IDS int64[rows, length], MASK int64[rows, length] → POOLED float32[rows, features]. All other names
    begin with PREFIX. Raises BadInput.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings(), _without_graphs(), torch.no_grad():
        path = Path(folder) / "encoder.onnx"
        warnings.simplefilter("ignore")  # of the tracer, about shapes that the parity check proves
        try:
            torch.onnx.export(
                encoder.pooled,
                _example(encoder),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[IDS, MASK],
                output_names=[POOLED],
                dynamic_axes={
                    IDS: {0: "rows", 1: "length"},
                    MASK: {0: "rows", 1: "length"},
                    POOLED: {0: "rows"},
                },
            )
        except Exception as error:  # torch raises unrelated types
            raise BadInput(
                f"a network of type {encoder.architecture} cannot become ONNX ({type(error).__name__})."
            ) from error
        model = onnx.load(path)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise BadInput(
            f"a network of type {encoder.architecture} cannot become a bundle: it branches on its inputs."
        )
    if not {IDS, MASK} <= {name for node in model.graph.node for name in node.input}:
        # as MRA on a processor: its attention is zero there
        raise BadInput(f"a network of type {encoder.architecture} does not attend to its tokens here.")
    return rewritten(_with_prefix(model), encoder.vocabulary, encoder.positions)


def to_torch_script(encoder: EagerEncoder) -> Any | None:
    """The same as a traced module; None if it cannot be traced, or not be saved."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            traced: Any = torch.jit.trace(encoder.pooled, _example(encoder), check_trace=False)  # type: ignore[no-untyped-call]
        except Exception:  # torch raises unrelated types
            return None
    return None if traced.inlined_graph.findAllNodes("prim::PythonOp") else traced


def _example(encoder: EagerEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    rows, length = EXAMPLE
    ids = torch.arange(rows * length).reshape(rows, length) % encoder.vocabulary
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return ids, mask


@contextmanager
def _without_graphs() -> Iterator[None]:
    """torch prints the graph that it cannot export, tens of kilobytes, whatever its settings say."""
    library: Any = import_module("torch._C")
    log, library._jit_onnx_log = library._jit_onnx_log, lambda *_: None  # noqa: SLF001 - there is no other way
    try:
        yield
    finally:
        library._jit_onnx_log = log  # noqa: SLF001


def _with_prefix(model: onnx.ModelProto) -> onnx.ModelProto:
    kept = {IDS, MASK, POOLED, ""}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in kept else f"{PREFIX}{name}" for name in names]
        node.name = ""
    for tensor in model.graph.initializer:
        tensor.name = f"{PREFIX}{tensor.name}"
    del model.graph.value_info[:]
    return model
