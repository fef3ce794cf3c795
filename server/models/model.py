"""A bundle ready to answer, and several that answer as one.

bundle folder ──load_model──▶ Model = bundle + tokenizer + engine, warm and checked one or more models
──────────▶ Ensemble = the weighted mean of their probabilities; one model is an ensemble of itself
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine, pad
from server.engines.factory import open_engine
from server.errors import BadBundle
from server.models.tokenizer import Tokenizer
from server.settings import Settings

SAME = 1e-5
"""Largest difference in probability between two answers to the same text."""


@dataclass(frozen=True, eq=False)
class Model:
    """One bundle in use. Equal only to itself, so that two loads of one bundle never share a batch."""

    bundle: Bundle
    engine: Engine
    tokenizer: Tokenizer

    def run(self, rows: Sequence[Ids], length: int) -> Floats:
        """What the batcher calls in one of its threads: float32[rows, classes] for rows padded to `length`.

        Where memory does not suffice for all at once it is tried by halves. Raises MemoryError when it does
        not for a single row.
        """
        try:
            return self.engine.run(*pad(rows, length))
        except MemoryError:
            if len(rows) == 1:
                raise
            half = len(rows) // 2
            return np.concatenate([self.run(rows[:half], length), self.run(rows[half:], length)])


def load_model(path: Path, settings: Settings, shared: Path | None = None) -> Model:
    """Read a bundle, open its engine, and let it answer at every bucket length, so that no request is the
    first of its shape.

    `shared` is a folder that the worker processes of one server have in common. Raises BadBundle, also for
    one whose answers depend on padding, and BadSetting.
    """
    bundle = read_bundle(path)
    engine = open_engine(
        bundle, engine=settings.engine, device=settings.device, shared=shared, cuda=settings.cuda
    )
    # the folder may have been replaced between its check and its use
    if read_bundle(path).version != bundle.version:
        raise BadBundle(f"{path}: the bundle was replaced while it was read; load it again.")
    model = Model(bundle, engine, Tokenizer.of(bundle))
    _check(model, settings.bucket_lengths)
    return model


def _check(model: Model, lengths: Sequence[int]) -> None:
    """The same text at every bucket length: its probabilities must be some, sum to 1, and be the same
    everywhere.
    """
    manifest = model.bundle.manifest
    ids = (np.arange(manifest.min_length, dtype=np.int32) * 7) % len(model.bundle.vocabulary)
    answers = np.concatenate([model.run([ids], max(length, len(ids))) for length in (*lengths, len(ids))])
    if (
        answers.shape[1:] != (len(manifest.labels),)
        or not np.isfinite(answers).all()
        or not np.allclose(answers.sum(axis=1), 1, atol=1e-4)
    ):
        raise BadBundle(
            f"{model.bundle.path}: the model does not answer with {len(manifest.labels)} probabilities "
            "a text; export the bundle again."
        )
    if np.ptp(answers, axis=0).max() > SAME:
        raise BadBundle(
            f"{model.bundle.path}: the model's answer to a text depends on its padding; export the "
            "bundle again."
        )
