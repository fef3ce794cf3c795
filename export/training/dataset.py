"""Reads labelled texts as token ids: tokenizer, train/validation split, and batches of similar length."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.training.evidence import Fold
from export.training.labeling_config import check_labels
from export.training.options import TokenizerChoice
from export.training.tokens import choose_tokens
from export.training.training_data import folded
from server.arrays import Ids
from server.errors import BadInput
from server.offline.labelled import LabelledSource, LeftOut, read_labelled

HELD_OUT = 0.1
"""Share of the training texts that is held out for validation."""


@dataclass(frozen=True)
class Texts:
    """Texts with one label each; `left_out` counts the others by reason."""

    texts: list[str]
    labels: list[str]
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True)
class Examples:
    """Texts as rows of ids, with the class of each: classes int64[rows]."""

    rows: list[Ids]
    classes: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> "Examples":
        return Examples([self.rows[i] for i in indices], self.classes[list(indices)])

    def padded(self, indices: Sequence[int], pad: int) -> tuple[Tensor, Tensor]:
        """(ids int64[rows, length] padded with `pad`, lengths int64[rows])."""
        rows = [self.rows[i] for i in indices]
        ids = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return torch.from_numpy(ids), torch.tensor([len(row) for row in rows])

    def batches(self, size: int, random: np.random.Generator | None = None) -> Iterator[list[int]]:
        """Indices in batches of similar length; with `random`, every call gives other batches."""
        shuffled = range(len(self)) if random is None else random.permutation(len(self)).tolist()
        order = sorted(shuffled, key=lambda i: len(self.rows[i]) // (1 if random is None else 16))
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        yield from groups if random is None else (groups[i] for i in random.permutation(len(groups)))


@dataclass(frozen=True)
class TrainingSource:
    """The files of labelled texts; `text`, `label` and `label_config` are those of `LabelledSource`."""

    train: Path
    test: Path | None
    text: str | None = None
    label: str | None = None
    label_config: str | None = None

    @classmethod
    def of(cls, source: LabelledSource, test: Path | None) -> "TrainingSource":
        """Training texts, and test texts in a file that is read in the same way."""
        return cls(source.path, test, source.text, source.label, source.label_config)

    def labelled(self, path: Path) -> LabelledSource:
        """One of the files, to be read."""
        return LabelledSource(path, self.text, self.label, self.label_config)


@dataclass(frozen=True)
class Data:
    """Training texts (`fitted` and `held_out`) and test texts, all as ids of `tokens`. `left_out` is the
    number of training tasks without a label or text. `learned` and `evidence` are those of `Tokens`.
    """

    labels: tuple[str, ...]
    tokens: tuple[str, ...]
    fitted: Examples
    held_out: Examples
    test: Examples | None
    left_out: int
    learned: str | None
    evidence: dict[str, Any]


def read_data(
    source: TrainingSource,
    *,
    seed: int,
    vocabulary: int,
    ignored: str,
    min_length: int,
    tokenizer: TokenizerChoice,
    split: Fold | None = None,
) -> Data:
    """Read and split the texts, choose the tokens of the fitted ones, encode all. Raises BadInput."""
    texts = read_texts(source.labelled(source.train))
    labels = tuple(sorted(set(texts.labels)))
    if len(labels) < 2:
        raise BadInput(f"{source.train}: the texts have one label only ({labels[0]}); expected two or more.")
    check_labels(labels, source.train)
    tested = read_texts(source.labelled(source.test)) if source.test else None
    unseen = sorted(set(tested.labels) - set(labels)) if tested else []
    if unseen:
        raise BadInput(f"{source.test}: labels that {source.train} does not have: {', '.join(unseen)}.")
    if split is None:
        fitted, held_out = hold_out(texts, HELD_OUT, np.random.default_rng(seed), source.train)
    else:
        fitted, held_out = split[0].tolist(), split[1].tolist()
    tokens = choose_tokens(
        [texts.texts[i] for i in fitted],
        [texts.labels[i] for i in fitted],
        tokenizer,
        size=vocabulary,
        ignored=ignored,
        seed=seed,
    )
    encode_all = tokens.tokenizer(min_length).encode_all

    def examples(texts: Texts) -> Examples:
        return Examples(
            encode_all(texts.texts),
            torch.tensor([labels.index(name) for name in texts.labels]),
        )

    everything = examples(texts)
    return Data(
        labels,
        tokens.tokens,
        everything.take(fitted),
        everything.take(held_out),
        examples(tested) if tested else None,
        texts.left_out.total,
        tokens.learned,
        tokens.evidence,
    )


def read_texts(source: LabelledSource) -> Texts:
    """The labelled texts of a file. Raises BadInput, also for texts with several labels."""
    found = read_labelled(source)
    if found.multi_label:
        raise BadInput(
            f"{source.path}: texts may have several labels here; this network learns one label per text."
        )
    return Texts(found.texts, [labels[0] for labels in found.labels], found.left_out)


def hold_out(
    data: Texts, share: float, random: np.random.Generator, path: Path
) -> tuple[list[int], list[int]]:
    """Indices (fitted, held out), stratified: `share` of each label's texts, at least one. Equal texts are on
    the same side.

    Raises BadInput if a label has only one text.
    """
    by_text: defaultdict[str, list[int]] = defaultdict(list)
    for i, words in enumerate(data.texts):
        by_text[folded(words)].append(i)
    by_label: defaultdict[str, list[list[int]]] = defaultdict(list)
    for indices in by_text.values():
        by_label[data.labels[indices[0]]].append(indices)
    fitted, held_out = [], []
    for label, groups in sorted(by_label.items()):
        if len(groups) < 2:
            raise BadInput(f'{path}: the label "{label}" has one text only; give it more, or leave it out.')
        cut = max(1, round(len(groups) * share))
        shuffled = [groups[i] for i in random.permutation(len(groups))]
        held_out += [i for indices in shuffled[:cut] for i in indices]
        fitted += [i for indices in shuffled[cut:] for i in indices]
    return sorted(fitted), sorted(held_out)
