"""Networks of lower precision: int8 for CPUs, float16 for GPUs. ONNX Runtime's own tools make them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from server.encoders.transformer.encoder import Precision


def reduced(network: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """The same network with weights of this precision. int8: dynamic quantization of the matrix products,
    with a scale for each column of weights, and for the activations of each call.
    """
    if precision == "int8":
        return _int8(network)
    if precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted: onnx.ModelProto = convert_float_to_float16(network, keep_io_types=True)
        return converted
    return network


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
        return onnx.load(path)
