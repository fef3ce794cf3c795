"""The options of `prelabel export`. Imports no torch, so that its help needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.encoders.transformer.encoder import LongTexts
from server.errors import BadSetting


@dataclass(frozen=True)
class ExportOptions:
    """A checkpoint with its vocabulary, or the directory of a transformer. The options from `long_texts` on
    are for the latter; `calibration` is a file of labelled texts, with its columns `text` and `label`.
    """

    out: Path
    checkpoint: Path | None = None
    vocabulary: Path | None = None
    transformer: Path | None = None
    labels: str | None = None
    long_texts: LongTexts = "truncate"
    max_length: int | None = None
    quantize: Literal["int8", "float16"] | None = None
    calibration: Path | None = None
    text: str | None = None
    label: str | None = None

    @property
    def class_labels(self) -> tuple[str, ...] | None:
        return None if self.labels is None else tuple(each.strip() for each in self.labels.split(","))

    def check(self) -> None:
        """Raises BadSetting for options that contradict each other."""
        if (self.checkpoint is None) == (self.transformer is None):
            raise BadSetting("Give --checkpoint with --vocab, or --transformer.")
        if (self.checkpoint is None) != (self.vocabulary is None):
            raise BadSetting("--checkpoint and --vocab: give both or neither.")
        of_transformers = {
            "--long-texts": self.long_texts != "truncate",
            "--max-length": self.max_length is not None,
            "--quantize": self.quantize is not None,
            "--calibration": self.calibration is not None,
        }
        if self.calibration is None and (self.text or self.label) is not None:
            raise BadSetting(
                "--text and --label are the columns of --calibration: add it, or leave them out."
            )
        if self.transformer is None and (
            given := [name for name, is_given in of_transformers.items() if is_given]
        ):
            raise BadSetting(f"{given[0]} is for transformers: leave it out.")
        if (self.quantize is None) != (self.calibration is None):
            raise BadSetting(
                "--quantize and --calibration: give both or neither; the file of labelled texts shows the "
                "accuracy that a lower precision costs."
            )
