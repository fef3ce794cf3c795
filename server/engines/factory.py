"""Chooses and opens the engine for a bundle. Engines are imported when chosen, so serving needs no torch."""

import logging
from collections.abc import Sequence
from pathlib import Path

from server.bundle import Bundle
from server.encoders.transformer.encoder import transformer_of
from server.engines.base import CudaUnavailable, Engine
from server.engines.devices import NVIDIA_DRIVER, CudaOptions, cuda_devices
from server.errors import BadSetting

log = logging.getLogger(__name__)

ENGINES = ("auto", "tables", "onnx", "torchscript")


def open_engine(
    bundle: Bundle,
    *,
    engine: str = "auto",
    device: str = "auto",
    shared: Path | None = None,
    cuda: CudaOptions | None = None,
    cores: int = 1,
) -> Engine:
    """`engine` is one of ENGINES, `device` a setting of `server/engines/devices.py`, `shared` a folder for
    tables that several processes map. A transformer on the CPU runs a call on `cores` cores while it is the
    only one.

    engine=auto is ONNX Runtime on CUDA; on the CPU tables, or ONNX Runtime for a transformer. device=auto is
    CUDA if it works. If the host has a driver or the packages for CUDA but CUDA does not work, the engine
    runs on the CPU, `degraded` says why, and a warning is logged. Raises BadSetting (with device=cuda also if
    CUDA does not work) and BadBundle.
    """
    if engine not in ENGINES:
        raise BadSetting(f"engine={engine!r}: it must be one of {', '.join(ENGINES)}.")
    try:
        devices = cuda_devices(device)
    except ValueError as error:
        raise BadSetting(f"device={device!r}: it {error}.") from None
    if engine == "tables" and device not in ("auto", "cpu"):
        raise BadSetting(f"engine=tables runs on the CPU: for device={device} set engine=onnx.")
    if engine == "tables" and not bundle.has_tables:
        raise BadSetting(
            f"engine=tables: {bundle.manifest.name} has a transformer, which runs in ONNX Runtime: set "
            "engine=onnx."
        )
    if engine == "tables" or not devices or (device == "auto" and not _cuda_expected()):
        return _open_on_cpu(engine, bundle, shared, cores)
    try:
        return _open_on_cuda(engine, bundle, devices, cuda or CudaOptions())
    except CudaUnavailable as reason:
        if device != "auto":
            raise BadSetting(f"device={device}, but {reason}, or set device=cpu.") from None
        log.warning("DEGRADED, running on the CPU: %s", reason)
        fallback = _open_on_cpu(engine, bundle, shared, cores)
        fallback.degraded = str(reason)
        return fallback


def _cuda_expected() -> bool:
    """Whether the host has an NVIDIA driver or the environment has the packages for CUDA."""
    from server.engines.onnx_runtime import has_cuda

    return NVIDIA_DRIVER.exists() or has_cuda()


def _open_on_cpu(engine: str, bundle: Bundle, shared: Path | None, cores: int) -> Engine:
    if engine == "torchscript":
        return _open_torch_script(bundle, "cpu")
    if not bundle.has_tables:
        from server.engines.onnx_transformer import OnnxTransformerEngine

        return OnnxTransformerEngine(bundle, cores)
    if engine == "onnx":
        from server.engines.onnx_runtime import OnnxEngine

        return OnnxEngine(bundle)
    from server.engines.cpu_tables import TablesEngine, read_tables
    from server.engines.shared_tables import shared_tables

    tables, head_bias = shared_tables(bundle, shared) if shared else read_tables(bundle)
    return TablesEngine(tables, head_bias, bundle.manifest.head)


def _open_on_cuda(engine: str, bundle: Bundle, devices: Sequence[str], options: CudaOptions) -> Engine:
    """Raises CudaUnavailable, BadSetting."""
    transformer = transformer_of(bundle.encoders)
    if transformer is not None and transformer.spec.precision == "int8":
        raise CudaUnavailable(
            f"{bundle.manifest.name} is quantized to int8, for CPUs: export it with --quantize float16"
        )
    if engine == "torchscript" and transformer is not None:
        raise CudaUnavailable("the trace of a transformer runs on the CPU only: set engine=onnx")

    def open_on(device: str) -> Engine:
        if engine == "torchscript":
            return _open_torch_script(bundle, device)
        from server.engines.onnx_cuda import OnnxCudaEngine

        return OnnxCudaEngine(bundle, device, options)

    if len(devices) == 1:
        return open_on(devices[0])
    from server.engines.multi_gpu import MultiGpuEngine

    return MultiGpuEngine([open_on(device) for device in devices])


def _open_torch_script(bundle: Bundle, device: str) -> Engine:
    try:
        from server.engines.torch_script import TorchScriptEngine
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"engine=torchscript needs {error.name}, which is not installed: install prelabel[export], or "
            "set engine=onnx."
        ) from error
    return TorchScriptEngine(bundle, device)
