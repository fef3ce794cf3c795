"""Rewritten graphs: what they leave out, and that they give the same."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from export.encoders.transformer import IDS, MASK, POOLED, network_of
from export.hugging_face import rewriting, tracing
from export.hugging_face.eager import load_classifier
from export.hugging_face.first_token import only_first_token
from export.hugging_face.graph import Rewritten, run_on, used
from export.hugging_face.literal_shapes import with_literal_shapes
from export.reproducible import reproducible
from server.engines.onnx_file import read_model
from tests.hugging_face.conftest import Exported, Saved
from tests.hugging_face.tiny_models import MODELS

VOCABULARY, LENGTH = 60, 64


def call_of(rows: int, length: int) -> dict[str, Any]:
    """Random ids, the first row in full, the others padded behind a random length."""
    random = np.random.default_rng(length)
    lengths = np.array([length, *random.integers(1, length + 1, rows - 1)])
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {IDS: random.integers(3, VOCABULARY, (rows, length)), MASK: mask}


def changed(model: onnx.ModelProto, change: Rewritten) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(used(change.nodes, [each.name for each in model.graph.output]))
    copy.graph.initializer.extend(change.tensors)
    return copy


@pytest.mark.parametrize("kind", MODELS)
def test_the_last_layer_is_computed_for_the_first_token_only(kind: str, exported: Exported) -> None:
    network = network_of(read_model(exported(kind)), 0)
    weights = {tensor.name for tensor in network.graph.initializer if len(tensor.dims) == 2}
    products = [node for node in network.graph.node if node.op_type == "MatMul"]
    of_rows = [node.output[0] for node in products if node.input[1] in weights]
    attentions = [node.output[0] for node in network.graph.node if node.op_type == "Softmax"]
    [shapes] = run_on(network, [call_of(3, 20)], [], [*of_rows, *attentions])
    tokens = [shapes[name][1] for name in of_rows if len(shapes[name]) == 3]
    # the attention's output and both products of the feed-forward network, behind keys and values
    assert tokens[-3:] == [1, 1, 1]
    assert 20 in tokens
    queries = [int(shapes[name][-2]) for name in attentions]
    # scores of DeBERTa depend on pairs of tokens, in nodes that are left as they are
    assert queries == ([20, 20] if kind == "deberta-v2" else [20, 1])


@pytest.mark.parametrize("kind", MODELS)
@reproducible()
def test_a_rewritten_network_gives_the_same(kind: str, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_classifier(saved(kind)).encoder
    after = tracing.to_onnx(encoder)
    monkeypatch.setattr(tracing, "rewritten", lambda network, *_: network)
    before = tracing.to_onnx(encoder)
    assert len(after.graph.node) < 0.85 * len(before.graph.node)
    calls = [call_of(*shape) for shape in ((1, 1), (1, 2), (2, 5), (4, 33), (1, LENGTH), (3, LENGTH))]
    for old, new in zip(run_on(before, calls, [POOLED]), run_on(after, calls, [POOLED]), strict=True):
        assert np.abs(old[POOLED] - new[POOLED]).max() <= 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_no_shape_is_computed_in_a_layer(kind: str, exported: Exported) -> None:
    """DeBERTa folds rows and heads into one axis, which takes two dimensions that vary."""
    nodes = network_of(read_model(exported(kind)), 0).graph.node
    shapes = [node for node in nodes if node.op_type == "Shape" and "layer" in node.output[0]]
    assert bool(shapes) == (kind == "deberta-v2")


def test_a_network_whose_rewriting_differs_stays_as_it_was(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_classifier(saved("bert")).encoder
    with monkeypatch.context() as patch:
        patch.setattr(tracing, "rewritten", lambda network, *_: network)
        before = tracing.to_onnx(encoder)

    def wrong(model: onnx.ModelProto) -> Rewritten:
        found = only_first_token(model)
        for node in found.nodes:
            if node.op_type == "Tanh":
                node.op_type = "Sin"
        return found

    def failing(_: onnx.ModelProto) -> Rewritten:
        raise ValueError

    for broken in (wrong, failing):
        monkeypatch.setattr(rewriting, "only_first_token", broken)
        assert tracing.to_onnx(encoder).SerializeToString() == before.SerializeToString()


def test_what_others_read_of_a_tensor_is_computed_in_full() -> None:
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        network (float[rows, length, 4] x) => (float[rows, 4] first, float[rows, 4] largest)
        <int64 zero = {0}, int64[2] parts = {2, 2}, int64[1] axis = {1}> {
            y = Tanh(x)
            a, b = Split <axis = 2> (y, parts)
            c = Erf(a)
            z = Concat <axis = 2> (b, c)
            first = Gather <axis = 1> (z, zero)
            q = Concat <axis = 2> (b, b)
            largest = ReduceMax <keepdims = 0> (q, axis)
        }
    """)
    after = changed(model, only_first_token(model))
    call = {"x": np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)}
    names = ["first", "largest"]
    [old], [new] = run_on(model, [call], names), run_on(after, [call], names, ["c", "y"])
    assert all(np.array_equal(old[name], new[name]) for name in names)
    assert new["c"].tolist() == [2, 1, 2]
    assert new["y"].tolist() == [2, 5, 4]


def test_only_shapes_that_are_the_same_for_all_calls_become_literal() -> None:
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        network (float[rows, length, 4] x) => (float[r, l, h, d] heads, float[n, d] flat, float[n, m] both)
        <int64 zero = {0}, int64 one = {1}, int64[1] minus = {-1}, int64[1] two = {2}, int64[1] first = {0}> {
            shape = Shape(x)
            rows = Gather(shape, zero)
            length = Gather(shape, one)
            rows1 = Unsqueeze(rows, first)
            length1 = Unsqueeze(length, first)
            split = Concat <axis = 0> (rows1, length1, minus, two)
            heads = Reshape(x, split)
            size = Mul(rows1, length1)
            rest = Concat <axis = 0> (size, minus)
            flat = Reshape(x, rest)
            length2 = Mul(length1, two)
            all = Mul(length2, two)
            pairs = Concat <axis = 0> (all, rows1)
            both = Reshape(x, pairs)
        }
    """)
    calls = [{"x": np.ones((rows, length, 4), np.float32)} for rows, length in ((1, 1), (2, 3), (5, 4))]
    after = changed(model, with_literal_shapes(model, calls))
    literals = {each.name: onnx.numpy_helper.to_array(each).tolist() for each in after.graph.initializer}
    shapes = [literals.get(node.input[1]) for node in after.graph.node if node.op_type == "Reshape"]
    assert shapes == [[0, 0, 2, 2], [-1, 4], None]
    longer = {"x": np.ones((7, 11, 4), np.float32)}
    names = ["heads", "flat", "both"]
    [old], [new] = run_on(model, [longer], names), run_on(after, [longer], names)
    assert all(old[name].shape == new[name].shape for name in names)
