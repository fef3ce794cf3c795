"""Reads a bundle's model.onnx."""

from collections.abc import Iterator

import onnx
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


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of the graph: initializers, attributes of nodes, and those of nested graphs."""
    yield from graph.initializer
    for attribute in (each for node in graph.node for each in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner) if inner.node or inner.initializer else ()
