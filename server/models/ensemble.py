"""Ensembles: models whose weighted mean is the answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.arrays import Floats
from server.encoders.transformer.encoder import TransformerEncoder, transformer_of
from server.errors import BadSetting
from server.models.model import Model


@dataclass(frozen=True, eq=False)
class Member:
    """A model of an ensemble, its weight in the mean, and `order`: for each label of the ensemble, the class
    index in this model.
    """

    model: Model
    weight: float
    order: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ensemble:
    """One or more models with the same labels; `labels` is in class order, weights sum to 1."""

    version: str
    labels: tuple[str, ...]
    members: tuple[Member, ...]

    @property
    def only_transformer(self) -> TransformerEncoder | None:
        """The encoder, if it is the only one of a single model: then its token ids stand for a text."""
        encoders = self.members[0].model.bundle.encoders
        return transformer_of(encoders) if len(self.members) == len(encoders) == 1 else None

    @classmethod
    def of_one(cls, model: Model) -> "Ensemble":
        labels = model.bundle.labels
        return cls(model.bundle.version, labels, (Member(model, 1.0, np.arange(len(labels))),))

    @classmethod
    def of_several(cls, name: str, models: Sequence[Model], weights: Sequence[float]) -> "Ensemble":
        """The version is a hash of the versions and weights of the members. Raises BadSetting for models with
        different labels.
        """
        labels = models[0].bundle.labels
        for model in models:
            if set(model.bundle.labels) != set(labels):
                raise BadSetting(
                    f"ensemble {name}: its models must have the same labels; {models[0].bundle.version} "
                    f"has {', '.join(labels)}, "
                    f"{model.bundle.version} has {', '.join(model.bundle.labels)}."
                )
        shares = [weight / sum(weights) for weight in weights]
        content = " ".join(
            f"{model.bundle.version}:{share:.9g}" for model, share in zip(models, shares, strict=True)
        )
        version = f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        members = [
            Member(model, share, np.array([model.bundle.labels.index(label) for label in labels]))
            for model, share in zip(models, shares, strict=True)
        ]
        return cls(version, labels, tuple(members))

    def mean(self, outputs: Sequence[Floats]) -> Floats:
        """Weighted mean of the members' probabilities, float32[rows, classes] each; result in label order."""
        total = np.zeros((len(outputs[0]), len(self.labels)), dtype=np.float32)
        for member, output in zip(self.members, outputs, strict=True):
            total += np.float32(member.weight) * output[:, member.order]
        return total
