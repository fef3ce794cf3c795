"""Builds model.onnx from fitted encoders and a head, without torch.

ids, lengths ─▶ each encoder's ids ─▶ its logits and features ─┐
carry ────────▶ each encoder's part of it ────────────────────▶ Σ logits + bias ─▶ probabilities
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import onnx
from onnx import helper, numpy_helper, parser

from export.encoders.base import MICROSOFT, FittedEncoder, has_own_operators, parse_nodes, rename
from server.arrays import Floats
from server.bundle import Head

OPSET = 18
IR_VERSION = 8
"""That of opset 18; older versions of ONNX Runtime read it."""

SHARED = {"all_ids", "zero", "one", "length", ""}
"""Names that the nodes of all encoders find; "" is an input that is left out."""


def network_graph(encoders: Sequence[FittedEncoder], head_bias: Floats, head: Head) -> onnx.ModelProto:
    """ids int32[rows, length], lengths int32[rows], carry float32[rows or 1, carry size] → (probabilities
    float32[rows, classes], features float32[rows, carry size]), as every engine expects.

    `head_bias` float32[classes]. A row's ids are those of `server/encoders/rows.py`.
    """
    classes = len(head_bias)
    sizes = [encoder.carry_size(classes) for encoder in encoders]
    graph = parser.parse_graph(f"""
        network (int32[rows, length] ids, int32[rows] lengths, float[carried, {sum(sizes)}] carry)
            => (float[rows, {classes}] probabilities, float[rows, {sum(sizes)}] features) {{}}
    """)
    tensors = {"head_bias": head_bias}
    graph.node.extend(parse_nodes(_bounds(len(encoders)) + _carries(sizes)))
    for position, encoder in enumerate(encoders):
        own = encoder.tensors(position)
        tensors |= own
        kept = SHARED | own.keys()
        nodes = encoder.nodes(position)
        for node in nodes:
            rename(node, lambda name: name if name in kept else f"{name}{position}")  # noqa: B023 - called here
        graph.node.extend(nodes)
    graph.node.extend(parse_nodes(_head(len(encoders), head)))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    domains = {"": OPSET} | ({MICROSOFT: 1} if any(map(has_own_operators, graph.node)) else {})
    opsets = [helper.make_opsetid(*each) for each in domains.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _bounds(encoders: int) -> str:
    """Where each encoder's ids begin and end in each row: int64[rows, 1]."""
    last = encoders - 1
    text = f"""
        all_ids = Cast <to = 7> (ids)
        zero = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        axis_1 = Constant <value_ints = [1]> ()
        shape = Shape <start = 1, end = 2> (ids)
        length = Squeeze(shape)
        lengths64 = Cast <to = 7> (lengths)
        end{last} = Unsqueeze(lengths64, axis_1)
        begin0 = Constant <value_ints = [{last}]> ()
    """
    for i in range(last):
        text += f"""
            from{i} = Constant <value_ints = [{i}]> ()
            to{i} = Constant <value_ints = [{i + 1}]> ()
            header{i} = Slice(all_ids, from{i}, to{i}, axis_1)
            end{i} = Add(begin{i}, header{i})
            begin{i + 1} = Identity(end{i})
        """
    return text + "".join(_width(i) if last else "width0 = Identity(length)" for i in range(encoders))


def _width(position: int) -> str:
    return f"""
        tokens_of{position} = Sub(end{position}, begin{position})
        width{position} = ReduceMax <keepdims = 0> (tokens_of{position})
    """


def _carries(sizes: Sequence[int]) -> str:
    edges = pairwise(accumulate(sizes, initial=0))
    return "".join(
        f"""
            carry_from{i} = Constant <value_ints = [{begin}]> ()
            carry_to{i} = Constant <value_ints = [{end}]> ()
            carry{i} = Slice(carry, carry_from{i}, carry_to{i}, axis_1)
        """
        for i, (begin, end) in enumerate(edges)
    )


def _head(encoders: int, head: Head) -> str:
    activation = {"softmax": "Softmax <axis = 1>", "sigmoid": "Sigmoid"}[head]
    return f"""
        features = Concat <axis = 1> ({", ".join(f"features{i}" for i in range(encoders))})
        all_logits = Sum({", ".join(f"logits{i}" for i in range(encoders))}, head_bias)
        probabilities = {activation} (all_logits)
    """
