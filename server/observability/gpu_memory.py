"""Memory of the host's NVIDIA GPUs, read from the driver (NVML). Empty without a driver or nvidia-ml-py."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric


@dataclass(frozen=True)
class GpuMemory:
    """`used` and `total` in bytes; `gpu` is the device's index in the driver's order."""

    gpu: str
    used: int
    total: int


ReadGpus = Callable[[], list[GpuMemory]]


class NvmlReader:
    """Reads the memory of all GPUs through NVML, which is opened at the first read and stays open."""

    def __init__(self) -> None:
        self._read: ReadGpus | None = None

    def __call__(self) -> list[GpuMemory]:
        if self._read is None:
            self._read = _open_nvml()
        return self._read()


def _open_nvml() -> ReadGpus:
    """Always reads an empty list where NVML cannot be used."""
    try:
        import pynvml
    except ImportError:
        return list
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return list

    def read() -> list[GpuMemory]:
        found = []
        for index, handle in enumerate(handles):
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:
                continue  # this GPU has failed; still report the others
            found.append(GpuMemory(str(index), int(memory.used), int(memory.total)))
        return found

    return read


def gpu_metrics(read: ReadGpus) -> Iterable[Metric]:
    """Used and total memory of each GPU; nothing on a host without GPUs."""
    gpus = read()
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
