"""Shapes that a traced graph computes → constants, where they are the same for all calls.

torch traces `x.view(rows, length, -1, 32)` as a dozen nodes that read a shape, take it apart and put it
together. In ONNX a constant says the same: [0, 0, -1, 32], where 0 is the dimension of the input.
"""

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.hugging_face.graph import Rewritten, Values, constants_of, copied, run_on

ARITHMETIC = {
    "Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Reshape", "Add", "Sub", "Mul",
    "Div", "Sqrt",
}  # fmt: skip
"""Operators that compute shapes of shapes."""


def with_literal_shapes(model: onnx.ModelProto, calls: Sequence[Values]) -> Rewritten:
    """`calls` are inputs of different rows and lengths. They are run, to see what does not depend on them."""
    constants = constants_of(model.graph)
    shapes = _computed_from_shapes(model.graph, constants.keys())
    nodes = [node for node in model.graph.node if not shapes.issuperset(node.output)]
    read = {name for node in nodes for name in node.input} & shapes
    reshapes = [node for node in nodes if node.op_type == "Reshape" and node.input[1] in read]
    measured = {name for node in reshapes for name in (node.input[0], node.output[0])}
    runs = run_on(model, calls, sorted(read), sorted(measured))
    tensors: dict[str, onnx.TensorProto] = {}

    def literal(node: onnx.NodeProto, index: int) -> str:
        """The name of this input of the node, as a constant if it can be one."""
        name = str(node.input[index])
        if name not in read:
            return name
        found, constant = [run[name] for run in runs], f"{name}_literal"
        if all(np.array_equal(found[0], each) for each in found):
            tensors[constant] = numpy_helper.from_array(found[0], constant)
            return constant
        if node.op_type == "Reshape" and index == 1:
            before, after = ([run[each] for run in runs] for each in (node.input[0], node.output[0]))
            shape, constant = _reshape(before, after), f"{node.output[0]}_shape"
            if shape is not None:
                tensors[constant] = numpy_helper.from_array(shape, constant)
                return constant
        return name

    changed = [copied(node) for node in model.graph.node]
    for node in changed:
        if not shapes.issuperset(node.output):
            node.input[:] = [literal(node, index) for index in range(len(node.input))]
    return Rewritten(changed, list(tensors.values()))


def _computed_from_shapes(graph: onnx.GraphProto, constants: Set[str]) -> set[str]:
    """Names of the tensors that depend on shapes and constants alone."""
    found: set[str] = set()
    for node in graph.node:
        arguments = {name for name in node.input if name} - constants
        if node.op_type == "Shape" or (
            node.op_type in ARITHMETIC and arguments and found.issuperset(arguments)
        ):
            found.update(node.output)
    return found


def _reshape(
    before: Sequence[npt.NDArray[np.int64]], after: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64] | None:
    """The constant that asks for all shapes `after` of inputs with the shapes `before`: 0 for a dimension
    that stays as it is, and at most one -1. None if there is none.
    """
    shape = []
    for axis in range(len(after[0])):
        if all(axis < len(old) and new[axis] == old[axis] for old, new in zip(before, after, strict=True)):
            shape.append(0)
        elif len({int(new[axis]) for new in after}) == 1:
            shape.append(int(after[0][axis]))
        else:
            shape.append(-1)
    return np.array(shape, np.int64) if shape.count(-1) <= 1 else None
