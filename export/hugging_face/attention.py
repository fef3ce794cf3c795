"""Attention in plain nodes → MultiHeadAttention of ONNX Runtime.

    softmax(Q Kᵀ · scale + bias) V     becomes     MultiHeadAttention(q, k, v, bias)

The kernels for CUDA keep the scores in fast memory. The one for the CPU does so only without a bias, so a
graph for the CPU asks at each call whether the bias is zero: then no row is padded, and no window of local
attention is shorter than the text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.encoders.base import MICROSOFT
from export.hugging_face.graph import Rewritten, Values, attributes_of, constants_of, copied, run_on

SWAPPED = [0, 2, 1, 3]
"""[rows, tokens, heads, size] ⇄ [rows, heads, tokens, size]."""


@dataclass(frozen=True)
class Attention:
    """`queries` float32[rows, heads, tokens, size], `keys` float32[rows, heads, size, others], `values`
    float32[rows, heads, others, size] → `output` float32[rows, tokens, heads * size]. The scores are products
    times `scale`, plus the sum of `biases`.
    """

    queries: str
    keys: str
    values: str
    scale: float
    biases: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Found:
    """The attentions of a graph by their outputs, and for one call the dimensions of their tensors, and their
    biases.
    """

    attentions: Mapping[str, Attention]
    dimensions: Mapping[str, tuple[int, ...]]
    biases: Values
    made_by: Mapping[str, onnx.NodeProto]


def with_fused_attention(model: onnx.ModelProto, call: Values) -> Rewritten:
    """For CUDA. `call` is any input."""

    def nodes(attention: Attention, found: Found) -> list[onnx.NodeProto]:
        prepared, arguments = _arguments(attention, found)
        bias, sums = _bias(attention)
        return [*prepared, *sums, _fused(attention, found, arguments, bias, attention.output)]

    return _rewritten(model, call, nodes)


def with_attention_by_bias(model: onnx.ModelProto, call: Values) -> Rewritten:
    """For the CPU. `call` is an input without padding; attention that has a bias even then stays as it is."""
    conditions: dict[tuple[str, ...], str] = {}

    def nodes(attention: Attention, found: Found) -> list[onnx.NodeProto] | None:
        if any(found.biases[name].any() for name in attention.biases):
            return None
        queries, keys = found.dimensions[attention.queries], found.dimensions[attention.keys]
        if queries[2] != keys[3]:
            return None  # a single query has next to no scores
        prepared, arguments = _arguments(attention, found)
        bias, sums = _bias(attention)
        if not bias:
            return [*prepared, _fused(attention, found, arguments, "", attention.output)]
        condition = list[onnx.NodeProto]()
        if attention.biases not in conditions:
            conditions[attention.biases] = unbiased = f"{attention.output}_unbiased"
            condition = [*sums, *_is_zero(bias, unbiased)]
            sums = []
        branches = {}
        for branch, given in (("then_branch", ""), ("else_branch", bias)):
            output = f"{attention.output}_{branch}"
            fused = _fused(attention, found, arguments, given, output)
            value = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None, None, None])
            branches[branch] = helper.make_graph([fused], branch, [], [value])
        chosen = helper.make_node("If", [conditions[attention.biases]], [attention.output], **branches)
        return [*prepared, *condition, *sums, chosen]

    return _rewritten(model, call, nodes)


def _rewritten(
    model: onnx.ModelProto,
    call: Values,
    nodes_of: Callable[[Attention, Found], list[onnx.NodeProto] | None],
) -> Rewritten:
    found = _find(model, call)
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        attention = found.attentions.get(node.output[0])
        nodes += (attention and nodes_of(attention, found)) or [copied(node)]
    return Rewritten(nodes, [])


def _find(model: onnx.ModelProto, call: Values) -> Found:
    made_by = {name: node for node in model.graph.node for name in node.output}
    constants = constants_of(model.graph)
    candidates = [each for node in model.graph.node if (each := _attention(node, made_by, constants))]
    biases = sorted({name for each in candidates for name in each.biases})
    tensors = {name for each in candidates for name in (each.queries, each.keys, each.values)}
    [run] = run_on(model, [call], biases, sorted(tensors))
    dimensions = {name: tuple(map(int, run[name])) for name in tensors}
    values = {name: run[name] for name in biases}
    attentions = {each.output: each for each in candidates if _fits(each, dimensions, values)}
    return Found(attentions, dimensions, values, made_by)


def _fits(attention: Attention, dimensions: Mapping[str, tuple[int, ...]], biases: Values) -> bool:
    """Whether the dimensions are those that MultiHeadAttention asks for."""
    queries, keys, values = (
        dimensions[name] for name in (attention.queries, attention.keys, attention.values)
    )
    if not len(queries) == len(keys) == len(values) == 4:
        return False
    rows, heads, tokens, size = queries
    others = keys[3]
    return (
        keys == (rows, heads, size, others)
        and values == (rows, heads, others, size)
        and all(
            biases[name].ndim == 4
            and biases[name].shape[0] in (1, rows)
            and biases[name].shape[1] in (1, heads)
            and biases[name].shape[2:] == (tokens, others)
            for name in attention.biases
        )
    )


def _attention(
    node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto], constants: Values
) -> Attention | None:
    """That whose output, with its heads joined, is the node's."""
    if node.op_type != "Reshape" or (shape := constants.get(node.input[1])) is None:
        return None
    swapped = _source(node.input[0], made_by)
    if swapped is None or not _is(swapped, "Transpose", SWAPPED) or len(shape) != 3 or shape[:2].any():
        return None
    weighted = _source(swapped.input[0], made_by)
    softmax = _source(weighted.input[0], made_by) if weighted and weighted.op_type == "MatMul" else None
    if weighted is None or softmax is None or softmax.op_type != "Softmax":
        return None
    if attributes_of(softmax).get("axis", -1) not in (-1, 3):
        return None
    scores = _scores(softmax.input[0], made_by, constants)
    if scores is None:
        return None
    queries, keys, scale, biases = scores
    return Attention(queries, keys, weighted.input[1], scale, biases, node.output[0])


def _scores(
    name: str, made_by: Mapping[str, onnx.NodeProto], constants: Values
) -> tuple[str, str, float, tuple[str, ...]] | None:
    """Queries, keys, scale and biases of this tensor."""
    node = _source(name, made_by)
    if node is None:
        return None
    if node.op_type == "MatMul":
        return node.input[0], node.input[1], 1.0, ()
    if node.op_type in ("Mul", "Div"):
        found, factor = _scores(node.input[0], made_by, constants), constants.get(node.input[1])
        if found is None or found[3] or factor is None or factor.size != 1:
            return None
        scale = float(factor.reshape(())[()])
        return *found[:2], found[2] * (scale if node.op_type == "Mul" else 1 / scale), ()
    if node.op_type == "Add":
        for scores, bias in (node.input, reversed(node.input)):
            if (found := _scores(scores, made_by, constants)) and bias not in constants:
                return *found[:3], (*found[3], bias)
    return None


def _source(name: str, made_by: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node that makes this tensor of float32, without nodes that change nothing."""
    node = made_by.get(name)
    while node is not None and node.op_type == "Cast" and attributes_of(node)["to"] == onnx.TensorProto.FLOAT:
        node = made_by.get(node.input[0])
    return node


def _is(node: onnx.NodeProto | None, kind: str, perm: list[int]) -> bool:
    return node is not None and node.op_type == kind and attributes_of(node).get("perm") == perm


def _arguments(attention: Attention, found: Found) -> tuple[list[onnx.NodeProto], list[str]]:
    """Queries, keys and values as MultiHeadAttention takes them: float32[rows, tokens, heads * size], or keys
    and values float32[rows, heads, others, size]. First the nodes that bring them there.
    """
    made_by = found.made_by
    queries = _unsplit(attention.queries, SWAPPED, made_by)
    keys = _unsplit(attention.keys, [0, 2, 3, 1], made_by)
    values = _unsplit(attention.values, SWAPPED, made_by)
    nodes = list[onnx.NodeProto]()
    prefix = attention.output
    if queries is None:
        _, heads, _, size = found.dimensions[attention.queries]
        shape = numpy_helper.from_array(np.array([0, 0, heads * size], np.int64))
        queries = f"{prefix}_queries"
        nodes += [
            helper.make_node("Transpose", [attention.queries], [f"{queries}_swapped"], perm=SWAPPED),
            helper.make_node("Constant", [], [f"{queries}_shape"], value=shape),
            helper.make_node("Reshape", [f"{queries}_swapped", f"{queries}_shape"], [queries]),
        ]
    if keys is None or values is None:
        keys, values = f"{prefix}_keys", attention.values
        nodes.append(helper.make_node("Transpose", [attention.keys], [keys], perm=[0, 1, 3, 2]))
    return nodes, [queries, keys, values]


def _unsplit(name: str, perm: list[int], made_by: Mapping[str, onnx.NodeProto]) -> str | None:
    """float32[rows, tokens, heads * size], if that is what this tensor is made of."""
    node = made_by.get(name)
    if not _is(node, "Transpose", perm) or node is None:
        return None
    split = made_by.get(node.input[0])
    return str(split.input[0]) if split is not None and split.op_type == "Reshape" else None


def _bias(attention: Attention) -> tuple[str, list[onnx.NodeProto]]:
    """The sum of the biases, and the nodes that add them up. "" without a bias."""
    if len(attention.biases) < 2:
        return "".join(attention.biases), []
    name = f"{attention.output}_bias"
    return name, [helper.make_node("Sum", list(attention.biases), [name])]


def _fused(
    attention: Attention, found: Found, arguments: list[str], bias: str, output: str
) -> onnx.NodeProto:
    inputs = [*arguments, *(("", "", bias) if bias else ())]
    heads = found.dimensions[attention.queries][1]
    return helper.make_node(
        "MultiHeadAttention", inputs, [output], domain=MICROSOFT, num_heads=heads, scale=attention.scale
    )


def _is_zero(name: str, output: str) -> list[onnx.NodeProto]:
    """Whether all elements are: bool[]."""
    zero = numpy_helper.from_array(np.array(0, np.float32))
    return [
        helper.make_node("ReduceL1", [name], [f"{output}_sum"], keepdims=0),
        helper.make_node("Constant", [], [f"{output}_zero"], value=zero),
        helper.make_node("Equal", [f"{output}_sum", f"{output}_zero"], [output]),
    ]
