"""What rewriting an ONNX graph takes: its constants, the axes of its tensors, a run of it, its unused nodes.

Weights are never copied: they may take 2 GB.
"""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference

from export.encoders.base import read_by

Values = Mapping[str, npt.NDArray[Any]]
"""Arrays by the names of tensors."""

FEW = 64
"""Most elements of a constant that is looked at."""


class Rewritten(NamedTuple):
    """The nodes of a graph in their order, and the constants that they need in addition."""

    nodes: list[onnx.NodeProto]
    tensors: list[onnx.TensorProto]


def constants_of(graph: onnx.GraphProto) -> dict[str, npt.NDArray[Any]]:
    """Small initializers and outputs of Constant nodes."""
    constants = [
        node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"
    ]
    tensors = {each.name: each for each in graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in constants}
    return {name: numpy_helper.to_array(each) for name, each in tensors.items() if np.prod(each.dims) <= FEW}


def ranks_of(model: onnx.ModelProto) -> dict[str, int]:
    """The number of axes of each tensor, where ONNX can infer it."""
    weights = [each for each in model.graph.initializer if np.prod(each.dims) > FEW]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        model.graph.node,
        "skeleton",
        [*model.graph.input, *(value(each.name, each.data_type, each.dims) for each in weights)],
        model.graph.output,
        [each for each in model.graph.initializer if np.prod(each.dims) <= FEW],
    )
    inferred = shape_inference.infer_shapes(helper.make_model(graph, opset_imports=model.opset_import)).graph
    ranks = {each.name: len(each.dims) for each in inferred.initializer}
    for each in (*inferred.input, *inferred.value_info, *inferred.output):
        if each.type.tensor_type.HasField("shape"):
            ranks[each.name] = len(each.type.tensor_type.shape.dim)
    return ranks


def run_on(
    model: onnx.ModelProto, calls: Sequence[Values], names: Sequence[str], shapes: Sequence[str] = ()
) -> list[dict[str, npt.NDArray[Any]]]:
    """For each of the inputs `calls`: the tensors `names` of the network as they are, and for `shapes`
    int64[axes]. The model is the same afterwards.
    """
    outputs, nodes = len(model.graph.output), len(model.graph.node)
    if not names and not shapes:
        return [{} for _ in calls]
    known = {value.name for value in model.graph.output}
    measured = [f"{name}_dimensions" for name in shapes]
    model.graph.node.extend(map(_shape_node, shapes, measured))
    model.graph.output.extend(
        onnx.ValueInfoProto(name=each) for each in (*names, *measured) if each not in known
    )
    try:
        content = model.SerializeToString()
    finally:
        del model.graph.output[outputs:], model.graph.node[nodes:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    runs = (session.run([*names, *measured], dict(call)) for call in calls)
    return [dict(zip([*names, *shapes], run, strict=True)) for run in runs]


def used(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Those of the nodes, in their order, that these outputs need."""
    needed, kept = set(outputs), list[onnx.NodeProto]()
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(read_by(node))
            kept.append(node)
    return kept[::-1]


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes, each behind those that make what it reads."""
    made_by = {name: index for index, node in enumerate(nodes) for name in node.output}
    needs = {
        index: {made_by[name] for name in read_by(node) if name in made_by}
        for index, node in enumerate(nodes)
    }
    return [nodes[index] for index in TopologicalSorter(needs).static_order()]


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _shape_node(name: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Shape", [name], [output])
