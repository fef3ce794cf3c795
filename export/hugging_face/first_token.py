"""Leaves out what a network computes of tokens that nothing reads.

Of its last layer, a classifier that pools the first token reads one row for each text: of its queries,
attention and feed-forward network. Keys and values are those of all tokens. The answers are the same.

    states ─▶ layer ─▶ states[:, 0]     becomes     states[:, :1] ─▶ queries, … of the layer ─▶ states[:, 0]
                                                    states ────────▶ keys, values ──┘
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.hugging_face.graph import Rewritten, Values, attributes_of, constants_of, copied, ranks_of

ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Abs", "Exp", "Erf", "Tanh", "Sigmoid", "Relu", "Gelu",
    "Cast", "Identity", "Where",
}  # fmt: skip
"""Operators whose output at an index depends on their inputs at the same index."""

Axis = int | None
"""Of a tensor of which the first index of one axis is read: that axis, counted from the end (-1 is the
last). None if all of it is read.
"""


def only_first_token(model: onnx.ModelProto) -> Rewritten:
    """Nodes of kinds that are not known here compute what they did."""
    ranks, constants = ranks_of(model), constants_of(model.graph)
    wanted: dict[str, set[Axis]] = defaultdict(set)
    for value in model.graph.output:
        wanted[value.name].add(None)
    reads: list[list[Axis]] = []
    for node in reversed(model.graph.node):
        axes = set[Axis]().union(*(wanted[name] for name in node.output))
        read = None
        if len(axes) == 1 and (axis := next(iter(axes))) is not None:
            read = _reads(node, axis, ranks, constants)
        if read is None:
            # the node computes all of its outputs; those who want less read a slice of them
            for name in node.output:
                wanted[name].add(None)
            read = _pooled(node, ranks, constants)
        for name, axis in zip(node.input, read, strict=True):
            wanted[name].add(axis)
        reads.append(read)
    return _sliced(model, reads[::-1], wanted)


def _sliced(model: onnx.ModelProto, reads: list[list[Axis]], wanted: Mapping[str, set[Axis]]) -> Rewritten:
    """With a Slice in front of nodes that read less of an input than others do. `reads` is what each node
    reads of its inputs, `wanted` what all nodes read of each tensor.
    """
    computed = {name for node in model.graph.node for name in node.output}
    nodes, tensors, slices = list[onnx.NodeProto](), list[onnx.TensorProto](), set[str]()
    for original, axes in zip(model.graph.node, reads, strict=True):
        node = copied(original)
        for index, (name, axis) in enumerate(zip(original.input, axes, strict=True)):
            if axis is None or (name in computed and len(wanted[name]) == 1):
                continue
            node.input[index] = sliced = f"{name}_first{-axis}"
            if sliced not in slices:
                slices.add(sliced)
                bounds = {f"{sliced}_begin": 0, f"{sliced}_end": 1, f"{sliced}_axis": axis}
                tensors += [
                    numpy_helper.from_array(np.array([i], np.int64), each) for each, i in bounds.items()
                ]
                nodes.append(helper.make_node("Slice", [name, *bounds], [sliced]))
        nodes.append(node)
    return Rewritten(nodes, tensors)


def _pooled(node: onnx.NodeProto, ranks: Mapping[str, int], constants: Values) -> list[Axis]:
    """What a node reads if all of its output is wanted: of `states[:, 0]` the first token."""
    everything: list[Axis] = [None] * len(node.input)
    if node.op_type == "Gather" and ranks.get(node.input[0]) == 3 and attributes_of(node).get("axis") == 1:
        index = constants.get(node.input[1])
        if index is not None and index.ndim == 0 and index == 0:
            return [-2, None]
    return everything


def _reads(node: onnx.NodeProto, axis: int, ranks: Mapping[str, int], constants: Values) -> list[Axis] | None:
    """What a node reads if of its output the first index of an axis is wanted. None if it must compute all
    of it.
    """
    if any(name not in ranks for name in (*node.input, *node.output)):
        return None
    attributes, rank = attributes_of(node), ranks[node.output[0]]
    from_start, of_inputs = rank + axis, [ranks[name] for name in node.input]
    rest: list[Axis] = [None] * (len(node.input) - 1)
    match node.op_type:
        case kind if kind in ELEMENTWISE:
            return [axis if each >= -axis else None for each in of_inputs]
        case "LayerNormalization" | "Softmax":
            return [axis, *rest] if from_start < attributes.get("axis", -1) % rank else None
        case "Concat":
            return [axis, *[axis for _ in rest]] if attributes["axis"] % rank != from_start else None
        case "MatMul":
            if axis == -1 or of_inputs[0] < -axis or of_inputs[1] < 2:
                return None
            # all rows of the product read all of the right side, but an axis in front of them is one of both
            return [axis, axis if axis < -2 and of_inputs[1] >= -axis else None]
        case "Transpose":
            return [attributes["perm"][from_start] - rank]
        case "Reshape":
            shape = constants.get(node.input[1])
            stays = (
                shape is not None and not attributes.get("allowzero") and not shape[: from_start + 1].any()
            )
            return [from_start - of_inputs[0], None] if stays else None
        case "Slice":
            axes = constants.get(node.input[3]) if len(node.input) > 3 else None
            return [axis, *rest] if axes is not None and from_start not in axes % rank else None
    return None
