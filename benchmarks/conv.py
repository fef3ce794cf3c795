"""The tutorial's network as it is commonly exported to ONNX: embedding, Conv, ReLU, maximum, linear, softmax.

A bundle's `model.onnx` is the same network folded into tables; this is the baseline of the folding. It takes
no lengths and treats padding as text, so it gives the bundle's probabilities only for texts without padding.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of

OPSET = 18


def state_of(bundle: Bundle) -> dict[str, Floats]:
    """The network's weights in float32, named as in the tutorial's `state_dict`. `fc` includes the
    temperature.
    """
    tensors = {
        each.name: numpy_helper.to_array(each).astype(np.float32)
        for each in onnx.load(bundle.file("model.onnx")).graph.initializer
    }
    embedding = tensors["embedding"]
    state = {"embedding.weight": embedding}
    for i, width in enumerate(cnn_of(bundle.encoders).spec.widths):
        # [dimensions, width × filters] → [filters, dimensions, width]
        taps = tensors[f"taps{i}"].reshape(embedding.shape[1], width, -1)
        state[f"convs.{i}.weight"] = np.ascontiguousarray(taps.transpose(2, 0, 1))
        state[f"convs.{i}.bias"] = tensors[f"bias{i}"]
    return state | {"fc.weight": np.ascontiguousarray(tensors["head"].T), "fc.bias": tensors["head_bias"]}


def conv_onnx(bundle: Bundle) -> bytes:
    """An ONNX file for ids int64[rows, length] → probabilities float32[rows, classes], where `length` is at
    least the widest filter.
    """
    state = state_of(bundle)
    nodes = [
        _node("Gather", ["embedding.weight", "ids"], "words"),
        _node("Transpose", ["words"], "embedded", perm=[0, 2, 1]),
    ]
    for i in range(len(cnn_of(bundle.encoders).spec.widths)):
        nodes += [
            _node("Conv", ["embedded", f"convs.{i}.weight", f"convs.{i}.bias"], f"windows{i}"),
            _node("Relu", [f"windows{i}"], f"active{i}"),
            _node("ReduceMax", [f"active{i}", "time"], f"pooled{i}", keepdims=0),
        ]
    nodes += [
        _node(
            "Concat",
            [f"pooled{i}" for i in range(len(cnn_of(bundle.encoders).spec.widths))],
            "features",
            axis=1,
        ),
        _node("Gemm", ["features", "fc.weight", "fc.bias"], "logits", transB=1),
        _node("Softmax", ["logits"], "probabilities", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "SentimentCNN",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(bundle.labels)])],
        [numpy_helper.from_array(tensor, name) for name, tensor in state.items()]
        + [numpy_helper.from_array(np.array([2]), "time")],
    )
    # the file format of this operator set; the default is the library's newest
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString()
    return written


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)
