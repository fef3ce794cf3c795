"""Attention as one node: where it is, and that it gives the same, with and without padding."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.encoders.base import MICROSOFT, read_by, rename
from export.encoders.transformer import POOLED, FittedTransformer
from export.hugging_face.eager import load_classifier
from export.hugging_face.graph import in_order, run_on
from export.hugging_face.precision import reduced as reduced_network
from export.hugging_face.rewriting import with_attention_for
from export.hugging_face.tracing import to_onnx
from export.publish_transformer import TransformerOptions, export_transformer
from export.reproducible import reproducible
from server.bundle import Bundle
from server.encoders.transformer.encoder import Precision, TransformerSpec
from server.engines.onnx_file import read_model
from server.offline.labelled import LabelledTexts, LeftOut
from tests.hugging_face.conftest import Exported, Saved
from tests.hugging_face.test_rewriting import LENGTH, VOCABULARY, call_of
from tests.hugging_face.tiny_models import LABELS, MODELS, TEXTS, save_classifier

ATTENTIONS: dict[Precision, dict[str, int]] = {
    # the last layer has one query; MPNet and DeBERTa have biases that are never zero
    "int8": dict.fromkeys(MODELS, 1) | {"mpnet": 0, "deberta-v2": 0},
    "float16": dict.fromkeys(MODELS, 2) | {"deberta-v2": 0},
}
"""How many of two layers have the node."""


def network_for(folder: Path, precision: Precision) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """As traced, and with attention for this precision, both in float32."""
    with reproducible():
        plain = to_onnx(load_classifier(folder).encoder)
    fused = onnx.ModelProto()
    fused.CopyFrom(plain)
    return plain, with_attention_for(fused, precision, VOCABULARY, LENGTH)


def attentions_in(graph: onnx.GraphProto) -> list[str]:
    """The inputs for which each attention node has a bias, as one letter: b, or - without."""
    found = list[str]()
    for node in graph.node:
        if node.op_type == "MultiHeadAttention":
            found.append("b" if len(node.input) > 3 else "-")
        for attribute in node.attribute:
            found += attentions_in(attribute.g) if attribute.HasField("g") else []
    return found


def assert_same(plain: onnx.ModelProto, fused: onnx.ModelProto) -> None:
    calls = [call_of(*shape) for shape in ((1, 1), (1, 5), (2, 5), (4, 33), (1, LENGTH), (3, LENGTH))]
    for old, new in zip(run_on(plain, calls, [POOLED]), run_on(fused, calls, [POOLED]), strict=True):
        assert np.abs(old[POOLED] - new[POOLED]).max() <= 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_attention_for_the_cpu_has_a_bias_only_in_calls_that_have_one(kind: str, saved: Saved) -> None:
    plain, fused = network_for(saved(kind), "int8")
    count = ATTENTIONS["int8"][kind]
    assert sum(node.op_type == "If" for node in fused.graph.node) == count
    assert sorted(attentions_in(fused.graph)) == sorted(["-", "b"] * count)
    assert_same(plain, fused)


@pytest.mark.parametrize("kind", MODELS)
def test_attention_for_cuda_is_one_node(kind: str, saved: Saved) -> None:
    plain, fused = network_for(saved(kind), "float16")
    assert attentions_in(fused.graph) == ["b"] * ATTENTIONS["float16"][kind]
    assert_same(plain, fused)


def test_windows_of_local_attention_stay_biases(tmp_path: Path) -> None:
    """Of ModernBERT's layers every other one reads 8 tokens on both sides: without padding, too."""
    folder = save_classifier(tmp_path / "deep", "modernbert", num_hidden_layers=4)
    plain, fused = network_for(folder, "int8")
    assert sum(node.op_type == "If" for node in fused.graph.node) == 2
    assert_same(plain, fused)


@pytest.fixture(scope="module", params=["int8", "float16"])
def reduced(request: pytest.FixtureRequest, saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    labels: list[tuple[str, ...]] = [(LABELS[i % 3],) for i in range(12)]
    calibration = LabelledTexts(TEXTS[:12], labels, multi_label=False, left_out=LeftOut())
    options = TransformerOptions(precision=request.param, calibration=calibration)
    return export_transformer(saved("bert"), tmp_path_factory.mktemp("reduced") / "bert", options)


def test_a_network_is_read_from_its_bundle_again(reduced: Bundle, saved: Saved) -> None:
    model = read_model(reduced)
    assert MICROSOFT in {each.domain for each in model.opset_import}
    network = FittedTransformer.of(reduced, np.zeros((32, 3), np.float32)).network
    onnx.checker.check_model(network)
    assert attentions_in(network.graph) == attentions_in(model.graph) != []
    rows = [np.arange(2, length, dtype=np.int32) % VOCABULARY for length in (5, 30, 40)]
    found = FittedTransformer.of(reduced, np.zeros((32, 3), np.float32)).features(rows)
    carry = np.zeros((1, 32), np.float32)
    for row, features in zip(rows, found, strict=True):
        call = {"ids": row[None], "lengths": np.array([len(row)], np.int32), "carry": carry}
        [run] = run_on(model, [call], ["features"])
        assert np.abs(run["features"] - features).max() <= 0.02


def test_a_network_without_such_nodes_imports_nothing_of_onnx_runtime(exported: Exported) -> None:
    assert [each.domain for each in read_model(exported("bert")).opset_import] == [""]


@reproducible()
def test_a_quantized_network_does_not_merge_sums_with_layer_normalization(
    tmp_path: Path, saved: Saved
) -> None:
    spec = TransformerSpec(
        architecture="bert",
        features=32,
        vocabulary=VOCABULARY,
        max_length=LENGTH,
        prefix=(),
        suffix=(),
        pad_id=1,
    )
    network = reduced_network(to_onnx(load_classifier(saved("bert")).encoder), spec, "int8")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "SkipLayerNormalization" not in kinds
    assert kinds >= {"DynamicQuantizeMatMul", "LayerNormalization", "If"}


def test_names_in_the_branches_of_an_if_belong_to_its_node() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        network (bool c, float[n] x) => (float[n] z) {
            z = If(c) <
                then_branch = a () => (float[n] then) { t = Neg(y)  then = Abs(t) },
                else_branch = b () => (float[n] other) { other = Abs(x) }
            >
            y = Neg(x)
        }
    """)
    nodes = in_order(model.graph.node)
    assert [node.op_type for node in nodes] == ["Neg", "If"]
    assert set(read_by(nodes[1])) >= {"c", "x", "y"}
    for node in nodes:
        rename(node, lambda name: name if name in "cxz" else f"{name}7")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    call = {"c": np.array(True), "x": np.ones(3, np.float32)}
    [found] = run_on(model, [call], ["z"])
    assert found["z"].tolist() == [1, 1, 1]
