"""The options of a training run. Imports no torch, so that `prelabel train --help` needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.encoders.transformer.encoder import LongTexts, Precision
from server.errors import BadSetting

TokenizerChoice = Literal["auto", "basic_english", "learned"]


@dataclass(frozen=True)
class TrainingOptions:
    """`seed` is for every encoder; `group`, a column whose equal values stay on one side of every split, for
    the choice by cross-validation; `balance` answers as if all labels were equally frequent.

    For the CNN: `epochs` None is the recipe's number, or more for few texts. `vocabulary` is its size.
    `ignore` is a regular expression of tokens that the network must not see, for which the tokens must be
    words. `tokenizer` auto is the one with the better evidence.

    For a sentence encoder, which is a directory: `max_length` in tokens, None the most that it reads;
    `quantize` to this precision, None float32.
    """

    seed: int = 1
    epochs: int | None = None
    vocabulary: int = 30_000
    ignore: str = ""
    group: str | None = None
    balance: bool = False
    tokenizer: TokenizerChoice = "auto"
    sentence_encoder: Path | None = None
    long_texts: LongTexts = "truncate"
    max_length: int | None = None
    quantize: Literal["int8", "float16"] | None = None

    @property
    def precision(self) -> Precision:
        return self.quantize or "float32"

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
        added = {
            "--start-from": start_from is not None,
            "--sentence-encoder": self.sentence_encoder is not None,
        }
        if encoder != "auto" and (given := [name for name, is_given in added.items() if is_given]):
            raise BadSetting(f"{given[0]} adds a candidate: it needs --encoder auto.")
        of_sentence_encoder = {
            "--long-texts": self.long_texts != default.long_texts,
            "--max-length": self.max_length is not None,
            "--quantize": self.quantize is not None,
        }
        given = [name for name, is_given in of_sentence_encoder.items() if is_given]
        if self.sentence_encoder is None and given:
            raise BadSetting(
                f"{given[0]} is for a sentence encoder: add --sentence-encoder DIR, or leave it out."
            )
