"""Candidates with a sentence encoder of Hugging Face: alone, and with n-grams under one head.

directory ─▶ network ─▶ in a lower precision, if asked for ─▶ features of all texts, once ─▶ heads

The heads are fitted on the features of the precision that the bundle will have. Loading a directory needs
torch and transformers.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from export.encoders.transformer import FittedTransformer
from export.publish_transformer import (
    TransformerOptions,
    cost_sentence,
    difference_of,
    fitted_transformer,
    reduced_transformer,
)
from export.training.blocks import Bar, TransformerBlock
from export.training.candidates import Candidate, Measured, with_and_without_ngrams
from export.training.evidence import Fold, cross_validate
from export.training.options import TrainingOptions
from export.training.stage_bar import stage_bar
from export.training.training_data import TrainingData

SENTENCE_ENCODER = "sentence encoder"
"""Name of the candidate."""


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """`network` as the bundle will have it; `full` is the same in float32."""

    network: FittedTransformer
    full: FittedTransformer
    data: TrainingData
    console: Console

    def candidates(self, ngrams: Candidate) -> list[Candidate]:
        return with_and_without_ngrams(SENTENCE_ENCODER, self.block, ngrams)

    @cached_property
    def block(self) -> TransformerBlock:
        return TransformerBlock(self.network, self.data.texts, reading(self.console))

    def publishing(self) -> AbstractContextManager[None]:
        """One thread for torch: tiny calls of the parity check would wait for each other on more."""
        from export.reproducible import reproducible

        return reproducible()

    def cost(self, best: Measured, folds: Sequence[Fold]) -> dict[str, Any]:
        """For the manifest: what a lower precision costs, if `best` has this encoder in one. Each precision
        has a head of its own, and is measured on texts that the head was not fitted on.
        """
        if self.block not in best.blocks or self.network is self.full:
            return {}
        block = TransformerBlock(self.full, self.data.texts, reading(self.console, "in float32, "))
        candidate = Candidate("", [block if each is self.block else each for each in best.blocks])
        with self.console.status("measuring what the lower precision costs"):
            fit = partial(candidate.fit, self.data.labelled.targets)
            before = cross_validate("", fit, self.data.labelled, folds)
        difference = difference_of(
            self.network.spec.precision,
            (before.probabilities, best.estimate.probabilities),
            (before.figures["accuracy"], best.estimate.figures["accuracy"]),
            self.data.labelled.head,
        )
        return {"quantization": difference}


def transformer_metrics(best: Measured) -> dict[str, Any]:
    """For the manifest, if `best` has a transformer: what it is, and how many texts it reads in part only."""
    for block in best.blocks:
        if isinstance(block, TransformerBlock):
            named = {"architecture", "features", "max_length", "long_texts", "precision"}
            described = block.network.spec.model_dump(include=named)
            return {"transformer": described | {"texts_cut": block.truncated}}
    return {}


def sentences_of(metrics: dict[str, Any]) -> list[str]:
    """About the transformer of a bundle with these metrics, for the report and the model card."""
    found = metrics.get("transformer")
    if found is None:
        return []
    longest, cut, texts = found["max_length"], found["texts_cut"], metrics["texts"]["fitted"]
    described = f"{found['architecture']}, {found['features']} features, {found['precision']}"
    lines = [f"Transformer: {described}, {longest} tokens at most."]
    if found["long_texts"] == "windows":
        lines.append("Longer texts are read in windows.")
    elif cut:
        lines.append(
            f"{cut:,} of {texts:,} texts are longer, and cut; an encoder made with --long-texts windows "
            "reads them to their end."
        )
    if (cost := metrics.get("quantization")) is not None:
        lines.append(f"Each precision with a head of its own, on held-out texts: {cost_sentence(cost)}")
    return lines


def load_sentence_encoder(
    options: TrainingOptions, data: TrainingData, console: Console, *, torchscript: bool
) -> SentenceEncoder:
    """The one that the options name, a directory. Raises BadInput, BadSetting, NotProven."""
    assert options.sentence_encoder is not None
    with console.status("loading the sentence encoder"):
        full = fitted_sentence_encoder(
            options.sentence_encoder,
            TransformerOptions(options.long_texts, options.max_length),
            torchscript=torchscript and options.precision == "float32",
        )
        reduced = options.precision != "float32"
        return SentenceEncoder(
            reduced_transformer(full, options.precision) if reduced else full, full, data, console
        )


def fitted_sentence_encoder(
    folder: Path, options: TransformerOptions, *, torchscript: bool = False
) -> FittedTransformer:
    """In float32, without a head, as TorchScript, too, if asked for. Raises as `load_sentence_encoder`."""
    from export.hugging_face.eager import load_sentence_encoder as load
    from export.hugging_face.tracing import to_torch_script

    eager, transformer, longest = load(folder)
    features = len(eager.features(np.zeros(1, dtype=np.int32)))
    no_head = np.zeros((features, 1), dtype=np.float32)
    fitted = fitted_transformer(transformer, eager, no_head, options, longest)
    return replace(fitted, traced=to_torch_script(eager)) if torchscript else fitted


def reading(console: Console, how: str = "") -> Bar:
    """The progress bar of a transformer that reads the texts."""
    return partial(stage_bar, console, f"reading the texts {how}with the encoder")
