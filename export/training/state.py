"""State of a training run, and its file, from which a stopped or killed run resumes."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.cnn import SentimentCNN
from server.errors import BadInput
from server.files import atomic_write


@dataclass
class Run:
    """The state after `epoch` epochs. `latest`, `average` and `best` are state_dicts."""

    targets: Tensor
    """Probabilities float32[rows, classes] that the network learns."""
    latest: dict[str, Tensor]
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)
    """For each epoch: losses and accuracies of the fitted texts (with dropout) and the held-out texts."""

    @classmethod
    def start(cls, cnn: SentimentCNN, targets: Tensor) -> "Run":
        return cls(targets, weights_of(cnn), weights_of(cnn), weights_of(cnn))

    def save(self, path: Path, key: str) -> None:
        """Write the file atomically, so that a killed run leaves a complete one. `key` stands for everything
        that decides the run.
        """
        with atomic_write(path) as file:
            torch.save(
                {"key": key, "run": {each.name: getattr(self, each.name) for each in fields(self)}}, file
            )

    @classmethod
    def load(cls, path: Path, key: str) -> "Run | None":
        """The run in the file, None if there is no file. Raises BadInput for a damaged file and for another
        key.
        """
        if not path.exists():
            return None
        try:
            saved = torch.load(path, weights_only=True)
            found, run = saved["key"], cls(**saved["run"])
        except Exception as error:  # torch raises a dozen unrelated types for a damaged file
            raise BadInput(
                f"{path}: cannot be read ({type(error).__name__}); run without --resume to start again."
            ) from None
        if found != key:
            raise BadInput(
                f"{path}: left by a run with other texts or options; run without --resume to start again."
            )
        return run


def weights_of(cnn: SentimentCNN) -> dict[str, Tensor]:
    """A copy of the state_dict, which later steps do not change."""
    return {name: value.detach().clone() for name, value in cnn.state_dict().items()}
