"""Rewrites a traced network into a faster one that gives the same."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper

from export.encoders.base import MICROSOFT, read_by
from export.encoders.transformer import IDS, MASK, POOLED
from export.hugging_face.attention import with_attention_by_bias, with_fused_attention
from export.hugging_face.first_token import only_first_token
from export.hugging_face.graph import Rewritten, Values, run_on, used
from export.hugging_face.literal_shapes import with_literal_shapes
from server.arrays import Floats
from server.encoders.transformer.encoder import Precision

Pass = Callable[[onnx.ModelProto], Rewritten]

LONG = 512
"""Tokens of the longest call that two networks are compared on."""

DIFFERENCE = 1e-4
"""Largest allowed difference of the features, as a share of the largest feature: that of sums in another
order.
"""


def rewritten(network: onnx.ModelProto, vocabulary: int, positions: int | None) -> onnx.ModelProto:
    """A network as `FittedTransformer.network`, changed in place; as it was, if the result would not be the
    same.
    """
    calls = _calls(vocabulary, min(positions or LONG, LONG))
    return _rewritten(network, calls, [lambda model: with_literal_shapes(model, calls), only_first_token])


def with_attention_for(
    network: onnx.ModelProto, precision: Precision, vocabulary: int, longest: int
) -> onnx.ModelProto:
    """The same for the attention of a network that is to have this precision: int8 is for CPUs, float16 for
    GPUs.
    """
    *calls, unpadded = _calls(vocabulary, min(longest, LONG))
    passes: dict[Precision, Pass] = {
        "int8": lambda model: with_attention_by_bias(model, unpadded),
        "float16": lambda model: with_fused_attention(model, calls[1]),
    }
    if MICROSOFT not in {each.domain for each in network.opset_import}:
        network.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return _rewritten(network, [*calls, unpadded], [passes[precision]])


def _rewritten(network: onnx.ModelProto, calls: Sequence[Values], passes: Sequence[Pass]) -> onnx.ModelProto:
    original, tensors = list(network.graph.node), len(network.graph.initializer)
    try:
        expected = _features(network, calls)
        for each in passes:
            _apply(network, each(network))
        same = _same(_features(network, calls), expected)
    except Exception:  # onnx and ONNX Runtime raise unrelated types
        same = False
    if not same:
        _apply(network, Rewritten(original, []))
        del network.graph.initializer[tensors:]
    return network


def _apply(network: onnx.ModelProto, change: Rewritten) -> None:
    nodes = used(change.nodes, (value.name for value in network.graph.output))
    needed = {name for node in nodes for name in read_by(node)}
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    network.graph.initializer.extend(each for each in change.tensors if each.name in needed)


def _calls(vocabulary: int, longest: int) -> list[Values]:
    """Of different rows and lengths, with and without padding."""
    random, calls = np.random.default_rng(0), list[Values]()
    for rows, length in ((1, 1), (2, 3), (3, 11), (5, 7), (1, longest)):
        shape = rows, min(length, longest)
        mask = np.ones(shape, np.int64)
        mask[1:, (shape[1] + 1) // 2 :] = 0
        calls.append({IDS: random.integers(0, vocabulary, shape), MASK: mask})
    return calls


def _features(network: onnx.ModelProto, calls: Sequence[Values]) -> list[Floats]:
    return [run[POOLED] for run in run_on(network, calls, [POOLED])]


def _same(found: Sequence[Floats], expected: Sequence[Floats]) -> bool:
    """NaN is never the same."""
    largest = max(float(np.abs(each).max()) for each in expected)
    differences = [np.abs(one - other).max() for one, other in zip(found, expected, strict=True)]
    return all(difference <= DIFFERENCE * largest for difference in differences)
