"""The tokens of a CNN: the words that `basic_english` splits, or pieces of words learned from the texts.

Which ones is decided by evidence: the log loss of a linear model of the tokens, cross-validated. The model is
the baseline of the report, and takes seconds.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from export.training.baseline import fit_baseline
from export.training.evidence import Labelled, cross_validate
from export.training.options import TokenizerChoice
from export.training.training_data import group_numbers
from export.vocabulary import PAD, UNKNOWN, is_utf_8
from server.encoders.base import TextTokenizer
from server.encoders.cnn.basic_english import basic_english
from server.encoders.cnn.encoder import tokenizer_of
from server.encoders.cnn.learned import learned_content
from server.encoders.unicode_pieces import without_surrogates
from server.errors import BadInput

OFTEN = 20
"""Occurrences of two neighbouring tokens from which they become one: rarer ones teach a CNN little."""

LONGEST = 12
"""Most bytes of a learned token: 11 letters, or 4 Japanese characters."""

MEASURED = 2_000
"""Most texts to choose a tokenizer by: a few seconds."""

FOLDS = 5
"""Most folds of them."""

CLEARLY_BETTER = 0.95
"""Learned tokens must have less than this share of the other log loss: they are slower to look up."""


@dataclass(frozen=True)
class Tokens:
    """`tokens` in the order of their ids; `learned` is the content of tokenizer.json; `evidence` says why
    these were chosen.
    """

    tokens: tuple[str, ...]
    learned: str | None
    evidence: dict[str, Any]

    def tokenizer(self, min_length: int) -> TextTokenizer:
        ids = {token: i for i, token in enumerate(self.tokens)}
        return tokenizer_of(ids, self.learned, unknown=ids[UNKNOWN], pad=ids[PAD], min_length=min_length)


def choose_tokens(
    texts: Sequence[str],
    labels: Sequence[str],
    tokenizer: TokenizerChoice,
    *,
    size: int,
    ignored: str,
    seed: int,
) -> Tokens:
    """The tokens for these texts, `size` at most. Raises BadInput."""
    words = Tokens(
        tuple(build_vocabulary(texts, size, ignored)),
        None,
        {"chosen": "basic_english", "why": "--ignore hides words" if ignored else "as the options say"},
    )
    if ignored or tokenizer == "basic_english":
        return words
    learned = learn_tokens(texts, size)
    if tokenizer == "learned":
        return learned
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:MEASURED])
    sample, their_labels = [texts[row] for row in rows], [labels[row] for row in rows]
    if min(len(set(sample)), len(set(their_labels))) < 2:
        return replace(words, evidence=words.evidence | {"why": "because the texts are too few"})
    losses = {
        each.evidence["chosen"]: log_loss_of(each, sample, their_labels, seed) for each in (words, learned)
    }
    clearly = losses["learned"] < CLEARLY_BETTER * losses["basic_english"]
    best = learned if clearly else words
    return replace(best, evidence={"chosen": best.evidence["chosen"], "log_loss": losses})


def build_vocabulary(texts: Sequence[str], size: int, ignored: str = "") -> list[str]:
    """<unk>, <pad>, then the most frequent tokens, `size` in all; ties are in alphabetical order, so the same
    texts give the same ids.

    Tokens that the regular expression `ignored` matches as a whole are left out: the network sees them as
    <unk>. Raises BadInput.
    """
    try:
        left_out = re.compile(ignored) if ignored else None
    except re.error as error:
        raise BadInput(f"--ignore {ignored}: not a regular expression ({error}).") from None
    counts = Counter(token for text in texts for token in basic_english(text))
    for special in (UNKNOWN, PAD):
        counts.pop(special, None)
    ranked = sorted(filter(is_utf_8, counts), key=lambda token: (-counts[token], token))
    kept = [token for token in ranked if left_out is None or not left_out.fullmatch(token)]
    return [UNKNOWN, PAD, *kept[: size - 2]]


def learn_tokens(texts: Sequence[str], size: int) -> Tokens:
    """Byte-level BPE: <unk>, <pad>, the 256 bytes, then the most frequent pairs up to `size` tokens. The same
    texts give the same tokens on any number of threads, because only counts are summed.
    """
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    library = Tokenizer.from_str(learned_content([], []))
    library.train_from_iterator(
        map(without_surrogates, texts),
        BpeTrainer(
            vocab_size=size,
            min_frequency=OFTEN,
            max_token_length=LONGEST,
            special_tokens=[UNKNOWN, PAD],
            initial_alphabet=sorted(ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    model = json.loads(library.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    evidence = {"chosen": "learned", "why": "as the options say"}
    return Tokens(tuple(tokens), learned_content(tokens, model["merges"]), evidence)


def log_loss_of(tokens: Tokens, texts: Sequence[str], labels: Sequence[str], seed: int) -> float:
    """Of a linear model of one and two tokens, on texts that it was not fitted on."""
    rows = tokens.tokenizer(1).encode_all(texts)
    words = [" ".join(f"t{i}" for i in row) for row in rows]
    _, classes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    groups = group_numbers(texts, texts)
    targets = np.where(np.arange(classes.max() + 1) == classes[:, None], 1, -1).astype(np.float32)
    labelled = Labelled(targets, groups, "softmax")
    folds = labelled.folds(seed)[:FOLDS]
    return float(
        cross_validate("", partial(fit_baseline, words, targets), labelled, folds).figures["log_loss"]
    )


def reason(evidence: dict[str, Any]) -> str:
    """Which tokenizer was chosen, and why, from `Tokens.evidence`."""
    if "log_loss" not in evidence:
        return f"{evidence['chosen']}, {evidence['why']}"
    losses = evidence["log_loss"]
    chosen, other = sorted(losses, key=lambda name: name != evidence["chosen"])
    return (
        f"{chosen}, by the log loss of a linear model of the tokens: {losses[chosen]:.3f}, "
        f"and {losses[other]:.3f} with {other}"
    )
