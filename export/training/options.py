"""The options of a training run. Imports no torch, so that `prelabel train --help` needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.errors import BadSetting

TokenizerChoice = Literal["auto", "basic_english", "learned"]


@dataclass(frozen=True)
class TrainingOptions:
    """`seed` is for every encoder; `group`, a column whose equal values stay on one side of every split, for
    the choice by cross-validation; `balance` answers as if all labels were equally frequent; the others are
    for the CNN. `epochs` None is the recipe's number, or more for
    few texts. `vocabulary` is its size. `ignore` is a regular expression of tokens that the network must not
    see, for which the tokens must be words. `tokenizer` auto is the one with the better evidence.
    """

    seed: int = 1
    epochs: int | None = None
    vocabulary: int = 30_000
    ignore: str = ""
    group: str | None = None
    balance: bool = False
    tokenizer: TokenizerChoice = "auto"

    def check(self, encoder: str, *, start_from: Path | None, resume: bool, plots: Path | None) -> None:
        """Raises BadSetting for options that this encoder does not have."""
        default = TrainingOptions()
        only_cnn = {
            "--epochs": self.epochs != default.epochs,
            "--vocabulary": self.vocabulary != default.vocabulary,
            "--ignore": self.ignore != default.ignore,
            "--tokenizer": self.tokenizer != default.tokenizer,
            "--resume": resume,
            "--plots": plots is not None,
        }
        given = [name for name, is_given in only_cnn.items() if is_given]
        if encoder != "cnn" and given:
            raise BadSetting(f"{given[0]} is for the CNN: add --encoder cnn, or leave it out.")
        if self.ignore and self.tokenizer == "learned":
            raise BadSetting(
                "--ignore hides words, and learned tokens are none: leave out --tokenizer learned."
            )
        for name, is_given in (("--group", self.group is not None), ("--balance", self.balance)):
            if encoder == "cnn" and is_given:
                raise BadSetting(f"{name} is not for the CNN alone: leave out --encoder cnn.")
        if encoder != "auto" and start_from is not None:
            raise BadSetting("--start-from adds a candidate: it needs --encoder auto.")
