"""Metrics that name what is running: build, engine, device and model versions."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from server.models.registry import Registry
from server.observability.metrics_page import info


def build_metrics(registry: Registry) -> Iterable[Metric]:
    """What this server is, and which model versions it answers with."""
    engine = registry.current(registry.names[0]).members[0].model.engine
    about = {"engine": engine.name, "device": engine.device, **_versions()}
    yield info(
        "prelabel_build_info",
        "1, with what the server is made of as labels; engine and device are the first bundle's.",
        about,
    )
    degraded = GaugeMetricFamily(
        "prelabel_degraded", "1 where a model runs on the CPU though a GPU was expected.", labels=["model"]
    )
    for name in registry.names:
        degraded.add_metric(
            [name], any(member.model.engine.degraded for member in registry.current(name).members)
        )
    yield degraded
    models = [{"model": name, "version": registry.current(name).version} for name in registry.names]
    yield info(
        "prelabel_model_info", "1 for each model that is served, with its version as a label.", *models
    )


@cache
def _versions() -> dict[str, str]:
    return {
        "version": _version_of("prelabel"),
        "python": python_version(),
        "onnxruntime": _version_of("onnxruntime", "onnxruntime-gpu"),
    }


def _version_of(*packages: str) -> str:
    """Of the first that is installed."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"
