"""The options of a training run and their defaults. Imports no torch, so that `prelabel train --help` needs
none.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """`epochs` None: as many as the recipe has, or more where there are few texts. `ignore`: tokens that the
    network must not see.
    """

    seed: int = 1
    epochs: int | None = None
    vocabulary: int = 30_000
    ignore: str = ""
