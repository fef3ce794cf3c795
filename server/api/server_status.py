"""What `/` and `/health` show about a model: engine, device, versions, and rows in flight."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from server.api.schemas import Degraded, ModelDescription
from server.batching.batcher import Batcher
from server.models.health import Health
from server.models.model import Model
from server.models.registry import Registry


@dataclass(frozen=True)
class ServerStatus:
    """`workers` is the number of processes that serve."""

    registry: Registry
    batcher: Batcher
    health: Health
    workers: int

    def describe(self, name: str) -> ModelDescription:
        """The model or ensemble `name`."""
        models = [member.model for member in self.registry.current(name).members]
        return {
            "model": name,
            "model_class": models[0].bundle.manifest.model_class if len(models) == 1 else "Ensemble",
            "engine": models[0].engine.name,
            "device": models[0].engine.device,
            **degraded(models),
            "waiting_rows": self.batcher.admission.waiting_rows,
            "worker": {"process": os.getpid(), "of": self.workers},
            "models": {each: self.registry.current(each).version for each in self.registry.names},
        }


def degraded(models: Sequence[Model]) -> Degraded:
    """Whether a model runs on the CPU although a GPU was expected, and why."""
    reason = next(filter(None, (model.engine.degraded for model in models)), None)
    return {"degraded": False} if reason is None else {"degraded": True, "degraded_because": reason}
