"""Memory of the host's NVIDIA GPUs, as their driver tells it (NVML). Nothing where there is no driver, or
nvidia-ml-py is not installed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric


@dataclass(frozen=True)
class GpuMemory:
    """In bytes; `gpu` is the device's number in the driver's order."""

    gpu: str
    used: int
    total: int


def nvml() -> Callable[[], list[GpuMemory]] | None:
    """Reads all GPUs' memory; None where NVML does not answer."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None

    def read() -> list[GpuMemory]:
        found = []
        for place, handle in enumerate(handles):
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:
                continue  # one that fell off the bus; the others are told
            found.append(GpuMemory(str(place), int(memory.used), int(memory.total)))
        return found

    return read


def gpu_metrics(read: Callable[[], list[GpuMemory]] | None) -> Iterable[Metric]:
    """Two gauges by GPU; nothing where there is none."""
    gpus = read() if read is not None else []
    if not gpus:
        return
    used = GaugeMetricFamily(
        "prelabel_gpu_memory_used_bytes",
        "Bytes of the GPU's memory in use, by all processes.",
        labels=("gpu",),
    )
    total = GaugeMetricFamily(
        "prelabel_gpu_memory_total_bytes", "Bytes of memory that the GPU has.", labels=("gpu",)
    )
    for each in gpus:
        used.add_metric([each.gpu], each.used)
        total.add_metric([each.gpu], each.total)
    yield from (used, total)
