"""Metrics with the versions of the build and of the served models."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from server.models.registry import Registry
from server.observability.metrics_page import info


def build_metrics(registry: Registry) -> Iterable[Metric]:
    """`prelabel_build_info`, `prelabel_degraded` and `prelabel_model_info`, read from the registry."""
    engine = registry.current(registry.names[0]).members[0].model.engine
    labels = {"engine": engine.name, "device": engine.device, **_versions()}
    yield info(
        "prelabel_build_info",
        "Always 1; the labels are versions, and the engine and device of the first bundle.",
        labels,
    )
    degraded = GaugeMetricFamily(
        "prelabel_degraded", "1 if a model runs on the CPU although a GPU was expected.", labels=["model"]
    )
    for name in registry.names:
        degraded.add_metric(
            [name], any(member.model.engine.degraded for member in registry.current(name).members)
        )
    yield degraded
    models = [{"model": name, "version": registry.current(name).version} for name in registry.names]
    yield info("prelabel_model_info", "Always 1, for each served model; its version is a label.", *models)


@cache
def _versions() -> dict[str, str]:
    return {
        "version": _version_of("prelabel"),
        "python": python_version(),
        "onnxruntime": _version_of("onnxruntime", "onnxruntime-gpu"),
    }


def _version_of(*packages: str) -> str:
    """The version of the first of `packages` that is installed, otherwise "none"."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"
