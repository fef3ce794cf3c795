"""The options of a training run. Imports no torch, so that `prelabel train --help` needs none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """`epochs` None is the recipe's number, or more for few texts. `vocabulary` is its size. `ignore` is a
    regular expression of tokens that the network must not see.
    """

    seed: int = 1
    epochs: int | None = None
    vocabulary: int = 30_000
    ignore: str = ""
