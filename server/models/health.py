"""Why a model does not answer, if it does not."""

from server.batching.batcher import Batcher
from server.models.registry import Registry


def unhealthy_reason(name: str, registry: Registry, batcher: Batcher) -> str | None:
    """Why the model `name` does not answer, in plain words; None while it does."""
    return (
        f"{name}: its model calls fail; its engine is being built anew."
        if registry.failing(name)
        else batcher.unhealthy_reason
    )


def any_unhealthy_reason(registry: Registry, batcher: Batcher) -> str | None:
    """Of any model."""
    return next(filter(None, (unhealthy_reason(name, registry, batcher) for name in registry.names)), None)
