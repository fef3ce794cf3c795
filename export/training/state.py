"""How far a fit came, and the file that keeps it: a stopped or killed run goes on from there."""

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
    """How far fitting came: what a stopped run goes on from. `latest`, `average` and `best` are state_dicts."""

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
    """A line an epoch: losses and accuracies of the fitted (with noise) and the held-out texts."""

    @classmethod
    def start(cls, cnn: SentimentCNN, targets: Tensor) -> "Run":
        return cls(targets, weights_of(cnn), weights_of(cnn), weights_of(cnn))

    def save(self, note: Path, key: str) -> None:
        """Write `note` atomically, so that a killed run leaves a whole one; `key` names everything that decides
        the run.
        """
        with atomic_write(note) as file:
            torch.save(
                {"key": key, "run": {each.name: getattr(self, each.name) for each in fields(self)}}, file
            )

    @classmethod
    def load(cls, note: Path, key: str) -> "Run | None":
        """The run that `note` tells of, None where there is no note. Raises BadInput for one of another key,
        or a damaged one.
        """
        if not note.exists():
            return None
        try:
            held = torch.load(note, weights_only=True)
            found, run = held["key"], cls(**held["run"])
        except Exception as error:  # torch raises a dozen unrelated types for a damaged file
            raise BadInput(
                f"{note}: cannot be read ({type(error).__name__}); run without --resume to start afresh."
            ) from None
        if found != key:
            raise BadInput(
                f"{note}: left by a run with other texts or options; run without --resume to start afresh."
            )
        return run


def weights_of(cnn: SentimentCNN) -> dict[str, Tensor]:
    """A state_dict that later steps do not change."""
    return {name: value.detach().clone() for name, value in cnn.state_dict().items()}
