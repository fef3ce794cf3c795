"""Model: a bundle with its tokenizer and its engine, warmed up and checked.

bundle folder ──load_model──▶ Model ──▶ Ensemble of one or more models
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle, read_bundle
from server.encoders.rows import max_length, sample_row
from server.engines.base import Engine, pad, token_cost
from server.engines.factory import open_engine
from server.errors import BadBundle
from server.models.tokenizer import Tokenizer
from server.settings import Settings


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded bundle. Compared by identity, so that two loads of one bundle never share a batch."""

    bundle: Bundle
    engine: Engine
    tokenizer: Tokenizer

    @cached_property
    def token_cost(self) -> int:
        """What a token costs in this engine, as a multiple of one in tables or on a GPU."""
        return token_cost(self.bundle, self.engine)

    def run(self, rows: Sequence[Ids], length: int) -> Floats:
        """The `RunBatch` of this model: float32[rows, classes] for rows padded to `length`, or to the most
        that the network takes.

        A batch that does not fit into memory is split in half. Raises MemoryError if one row does not fit.
        """
        most = max_length(self.bundle.encoders)
        try:
            return self.engine.run(*pad(rows, length if most is None else min(length, most)))
        except MemoryError:
            if len(rows) == 1:
                raise
            half = len(rows) // 2
            return np.concatenate([self.run(rows[:half], length), self.run(rows[half:], length)])


def load_model(path: Path, settings: Settings, shared: Path | None = None) -> Model:
    """Read a bundle, open its engine, and run it at every bucket length, so that no request is the first of
    its shape.

    The worker processes of one server share the folder `shared`. Raises BadBundle, also if probabilities
    depend on padding, and BadSetting.
    """
    bundle = read_bundle(path)
    engine = open_engine(
        bundle,
        engine=settings.engine,
        device=settings.device,
        shared=shared,
        cuda=settings.cuda,
        cores=settings.cores,
    )
    # the folder may have been replaced between its check and the opening of the engine
    if read_bundle(path).version != bundle.version:
        raise BadBundle(f"{path}: the bundle was replaced while it was read; load it again.")
    model = Model(bundle, engine, Tokenizer.of(bundle))
    _check(model, settings.bucket_lengths)
    return model


def _check(model: Model, lengths: Sequence[int]) -> None:
    """Run one text at every bucket length. Raises BadBundle unless its probabilities are finite, sum to 1,
    and are the same at every length.
    """
    manifest = model.bundle.manifest
    ids = sample_row(model.bundle.encoders)
    outputs = np.concatenate([model.run([ids], max(length, len(ids))) for length in (*lengths, len(ids))])
    if (
        outputs.shape[1:] != (len(manifest.labels),)
        or not np.isfinite(outputs).all()
        or (manifest.head == "softmax" and not np.allclose(outputs.sum(axis=1), 1, atol=1e-4))
    ):
        raise BadBundle(
            f"{model.bundle.path}: the model must return {len(manifest.labels)} probabilities per text that "
            "sum to 1; export the bundle again."
        )
    if np.ptp(outputs, axis=0).max() > model.bundle.tolerance:
        raise BadBundle(
            f"{model.bundle.path}: the probabilities of a text depend on its padding; export the bundle "
            "again."
        )
