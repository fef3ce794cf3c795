"""Chooses and opens the engine for a bundle. Engines are imported when chosen, so serving needs no torch."""

import logging
from collections.abc import Sequence
from pathlib import Path

from server.bundle import Bundle
from server.engines.base import Engine, NoCuda
from server.engines.devices import NVIDIA, CudaOptions, cuda_devices
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
) -> Engine:
    """`engine`: one of ENGINES; `device`: see `server/engines/devices.py`; `shared`: a folder for tables that several
    processes read.

    engine=auto is ONNX Runtime on CUDA, tables on the CPU. device=auto is CUDA where it works; where it is
    expected and does not, the engine says so in `degraded`, and the log does. Raises BadSetting, for
    device=cuda also where CUDA does not work, and BadBundle.
    """
    if engine not in ENGINES:
        raise BadSetting(f"engine={engine!r}: it must be one of {', '.join(ENGINES)}.")
    try:
        devices = cuda_devices(device)
    except ValueError as error:
        raise BadSetting(f"device={device!r}: it {error}.") from None
    if engine == "tables" and device not in ("auto", "cpu"):
        raise BadSetting(f"engine=tables runs on the CPU: for device={device} set engine=onnx.")
    if engine == "tables" or not devices or (device == "auto" and not _cuda_expected()):
        return _on_cpu(engine, bundle, shared)
    try:
        return _on_cuda(engine, bundle, devices, cuda or CudaOptions())
    except NoCuda as why:
        if device != "auto":
            raise BadSetting(f"device={device}, but {why}, or set device=cpu.") from None
        log.warning("DEGRADED, running on the CPU: %s", why)
        fallback = _on_cpu(engine, bundle, shared)
        fallback.degraded = str(why)
        return fallback


def _cuda_expected() -> bool:
    """Whether somebody gave this host a GPU, or this environment the packages for one."""
    from server.engines.onnx_runtime import has_cuda

    return NVIDIA.exists() or has_cuda()


def _on_cpu(engine: str, bundle: Bundle, shared: Path | None) -> Engine:
    match engine:
        case "onnx":
            from server.engines.onnx_runtime import OnnxEngine

            return OnnxEngine(bundle)
        case "torchscript":
            return _torch_script(bundle, "cpu")
        case _:
            from server.engines.cpu_tables import TablesEngine
            from server.engines.fixed_point_tables import read_tables
            from server.engines.shared_tables import shared_tables

            return TablesEngine(shared_tables(bundle, shared) if shared else read_tables(bundle))


def _on_cuda(engine: str, bundle: Bundle, devices: Sequence[str], options: CudaOptions) -> Engine:
    """Raises NoCuda."""

    def on(device: str) -> Engine:
        if engine == "torchscript":
            return _torch_script(bundle, device)
        from server.engines.onnx_cuda import OnnxCudaEngine

        return OnnxCudaEngine(bundle, device, options)

    if len(devices) == 1:
        return on(devices[0])
    from server.engines.multi_gpu import MultiGpuEngine

    return MultiGpuEngine([on(device) for device in devices])


def _torch_script(bundle: Bundle, device: str) -> Engine:
    try:
        from server.engines.torch_script import TorchScriptEngine
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"engine=torchscript needs {error.name}, which is not installed: install prelabel[export], or "
            "set engine=onnx."
        ) from error
    return TorchScriptEngine(bundle, device)
