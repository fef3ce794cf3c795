"""Networks of lower precision: int8 for CPUs, float16 for GPUs. ONNX Runtime's own tools make them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from export.hugging_face.graph import copied, in_order
from export.hugging_face.rewriting import with_attention_for
from server.encoders.transformer.encoder import Precision, TransformerSpec


def reduced(network: onnx.ModelProto, spec: TransformerSpec, precision: Precision) -> onnx.ModelProto:
    """The same network with weights of this precision, and attention for its devices. int8: dynamic
    quantization of the matrix products, with a scale for each column of weights, and for the activations of
    each call.
    """
    if precision == "float32":
        return network
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    prepared = with_attention_for(copy, precision, spec.vocabulary, spec.max_length)
    if precision == "int8":
        return _int8(prepared)
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: onnx.ModelProto = convert_float_to_float16(prepared, keep_io_types=True)
    return converted


def _int8(network: onnx.ModelProto) -> onnx.ModelProto:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        logging.getLogger().disabled = True  # it advises another preparation, which gains nothing here
        try:
            quantize_dynamic(
                network,
                path,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                # 7 bits: sums of 8-bit products overflow on processors without VNNI
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        finally:
            logging.getLogger().disabled = False
        quantized = onnx.load(path)
    # it orders nodes without regard for what those of an If read
    nodes = in_order([copied(node) for node in quantized.graph.node])
    del quantized.graph.node[:]
    quantized.graph.node.extend(nodes)
    # by these shapes ONNX Runtime would merge LayerNormalization with the sum in front of it into one node,
    # which takes seven times as long on the CPU
    del quantized.graph.value_info[:]
    return quantized
