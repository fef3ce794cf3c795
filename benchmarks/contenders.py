"""The contenders of `benchmarks/gpu.py`: the server's engines, and other ways to run the network on a device.

On `cpu` the same code uses ONNX Runtime's CPU provider and torch's CPU: a rehearsal, whose figures say
nothing about a GPU.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Barrier
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.conv import conv_onnx
from benchmarks.tutorial_loop import network_of
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.rows import sample_row
from server.engines.devices import CudaOptions, Grid, device_number
from server.engines.factory import open_engine
from server.engines.onnx_cuda import BoundCalls, CallSlot, cuda_provider
from server.engines.onnx_runtime import CPU, CUDA, DynamicSession, Provider, open_session
from server.engines.pinned_memory import HostBuffers, PinnedHostBuffers, PlainHostBuffers
from server.engines.torch_device import TorchDevice

Run = Callable[[Ids, Ids], Floats]
"""ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes]."""

LIMIT = 32 * 2**30
"""Bytes of GPU memory for a contender: batches are larger here than in a server."""

SIZED = ("onnx", "fused", "torchscript")
"""Contenders measured at every batch size: the server's engines, and the kernel that could replace one."""

Contender = Callable[[], Run]
"""Opens the contender."""


def contenders(bundle: Bundle, traced: Bundle, device: str, options: CudaOptions) -> Mapping[str, Contender]:
    """The contenders that can run here, by name. `traced` is the bundle with a model.ts."""
    provider = provider_of(device, LIMIT)
    found: dict[str, Contender] = {
        "onnx": lambda: bound(bundle, provider, device, options.grid),
        "fused": lambda: fused(bundle, device),
        "torchscript": lambda: open_engine(traced, engine="torchscript", device=device).run,
        "onnx, not bound": lambda: unbound(bundle, provider),
        "onnx, CUDA graphs": lambda: captured(bundle, provider, device, options.grid),
        "ORT Conv": lambda: ort_conv(bundle, provider),
        "torch eager": lambda: eager(bundle, device),
    }
    if device == "cpu" or find_spec("triton") is None:
        del found["fused"]
    return found


@contextmanager
def opened(contender: Contender) -> Iterator[Run]:
    """The contender's `run`; its memory is freed at the end of the block."""
    run = contender()
    try:
        yield run
    finally:
        del run
        gc.collect()


def provider_of(device: str, limit: int) -> Provider:
    """ONNX Runtime's provider for the device, with at most `limit` bytes of a GPU."""
    if device == "cpu":
        return CPU, {}
    onnxruntime.preload_dlls()
    return cuda_provider(device, limit)


def bound(bundle: Bundle, provider: Provider, device: str, grid: Grid) -> Run:
    """The calls of the server's engine."""
    return BoundCalls(bundle, open_session(bundle, provider), device, grid, host_buffers(device)).run


def unbound(bundle: Bundle, provider: Provider) -> Run:
    return DynamicSession(open_session(bundle, provider), bundle.encoders).run


def captured(bundle: Bundle, provider: Provider, device: str, grid: Grid) -> Run:
    """Bound calls of one slot; the first call of each shape is captured as a CUDA graph. A session replays
    one graph at a time.
    """
    session = open_session(bundle, (provider[0], {**provider[1], "enable_cuda_graph": "1"}))
    start = DynamicSession(session, bundle.encoders).start
    slot = CallSlot(
        GraphSession(session),
        device,
        grid,
        host_buffers(device),
        start,
        len(bundle.labels),
        sample_row(bundle.encoders),
    )
    # a graph belongs to the thread that captured it
    thread = ThreadPoolExecutor(1)
    thread.submit(slot.warm_up, Barrier(1)).result()

    def run(ids: Ids, lengths: Ids) -> Floats:
        most = grid.max_rows(ids.shape[1])
        if most is None:
            raise ValueError(f"{ids.shape[1]} tokens: longer than every shape of the grid")
        parts = [
            (ids[begin : begin + most], lengths[begin : begin + most]) for begin in range(0, len(ids), most)
        ]
        return np.concatenate([slot.run(grid.fit(*part[0].shape), *part) for part in parts])

    return lambda ids, lengths: thread.submit(run, ids, lengths).result()


def host_buffers(device: str) -> HostBuffers:
    return PlainHostBuffers() if device == "cpu" else PinnedHostBuffers(device_number(device))


def fused(bundle: Bundle, device: str) -> Run:
    # imported when chosen: only torch for CUDA brings Triton
    from benchmarks.triton_fused import FusedEngine

    return FusedEngine(bundle, device).run


class GraphSession:
    """A session that captures one graph for each binding."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._options: dict[int, onnxruntime.RunOptions] = {}

    def io_binding(self) -> Any:
        binding = self._session.io_binding()
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(len(self._options) + 1))
        self._options[id(binding)] = options
        return binding

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding, self._options[id(binding)])


def ort_conv(bundle: Bundle, provider: Provider) -> Run:
    """The common export of the network with Conv, in ONNX Runtime with its defaults for the device."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    given = {name: value for name, value in provider[1].items() if name in ("device_id", "use_tf32")}
    session = onnxruntime.InferenceSession(
        conv_onnx(bundle),
        options,
        providers=[(provider[0], given), (CPU, {})] if provider[0] == CUDA else [CPU],
    )

    def run(ids: Ids, _: Ids) -> Floats:
        probabilities: Floats = session.run(["probabilities"], {"ids": ids.astype(np.int64)})[0]
        return probabilities

    return run


def eager(bundle: Bundle, device: str) -> Run:
    """The tutorial's network in torch, in eval mode, without windows past a row's length."""
    torch_device = TorchDevice(device)
    model = network_of(bundle).to(device)

    def run(ids: Ids, lengths: Ids) -> Floats:
        with torch.inference_mode(), torch_device.context():
            probabilities: Floats = (
                torch.softmax(
                    model(
                        torch_device.upload(ids.astype(np.int64)),
                        torch_device.upload(lengths.astype(np.int64)),
                    ),
                    dim=1,
                )
                .cpu()
                .numpy()
            )
            return probabilities

    return run
