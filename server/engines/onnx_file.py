"""Reads a bundle's model.onnx."""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from server.bundle import Bundle
from server.errors import BadBundle


def read_model(bundle: Bundle) -> onnx.ModelProto:
    """Raises BadBundle for a file that ONNX cannot read, and for one that refers to other files: they have no
    checksum and may lie anywhere.
    """
    path = bundle.file("model.onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and onnx raise unrelated types
        raise BadBundle(
            f"{path}: cannot load it ({type(error).__name__}); export the bundle again."
        ) from error
    if any(uses_external_data(tensor) for tensor in _tensors(model.graph)):
        raise BadBundle(
            f"{path}: its tensors lie in other files; export the bundle again, with everything in one."
        )
    return model


def read_tensors(bundle: Bundle) -> dict[str, Any]:
    """The named tensors of model.onnx as numpy arrays. Raises BadBundle."""
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in read_model(bundle).graph.initializer}
    except (TypeError, ValueError) as error:
        raise BadBundle(
            f"{bundle.path}/model.onnx: a tensor of it cannot be read ({error}); export the bundle again."
        ) from error


def bad_weights(bundle: Bundle, reason: Exception) -> BadBundle:
    return BadBundle(
        f"{bundle.path}/model.onnx: its tensors are not those that the manifest describes ({reason}); export "
        "it again."
    )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of the graph: initializers, attributes of nodes, and those of nested graphs."""
    yield from graph.initializer
    for attribute in (each for node in graph.node for each in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner) if inner.node or inner.initializer else ()
