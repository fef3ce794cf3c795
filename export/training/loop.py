"""Fit the network to targets: noise against memorising, averaged weights, the best epoch kept, every epoch
noted for a later run.

    batch ─▶ words left out, vectors thinned ─▶ features ─▶ dropout ─▶ logits ─▶ cross entropy with the targets ─▶ AdamW ─▶ running average

What is measured on held-out texts, kept and exported is the running average of the weights (Polyak &
Juditsky, 1992). The randomness of an epoch comes from the seed and its number alone, so a run that was
stopped goes on to the same weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from export.cnn import SentimentCNN
from export.training.dataset import Examples
from export.training.state import Run, weights_of
from export.training.winner_pooling import FrozenFeatures, features

EVALUATION_ROWS = 32
"""Rows of one batch without gradient."""

UNKNOWN_ID = 0
"""The id of <unk>, which a vocabulary built for training begins with."""


@dataclass(frozen=True)
class Recipe:
    """What decides a run besides its texts. The defaults are those of the default bundle; docs/training.md
    tells what else was tried.
    """

    seed: int = 1
    epochs: int = 6
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.5
    """Share of the features left out in front of the last layer."""
    vector_dropout: float = 0.3
    """Share of each word's vector left out in a batch."""
    window_dropout: float = 0.3
    """Share of the windows that may not win the maximum over time."""
    word_dropout: float = 0.1
    """Share of the words replaced by <unk>."""
    rare_words: float = 3.0
    """A word that occurs n times is replaced by <unk> with probability rare_words / (rare_words + n):
    Kiperwasser & Goldberg (2016), §4.
    """
    averaging: float = 0.998
    """What the running average of the weights keeps at each step."""
    patience: int = 3
    """Epochs without a better log loss on held-out texts until fitting ends."""

    def steps(self, rows: int) -> int:
        """Batches of one epoch over `rows` texts."""
        return -(-rows // self.batch)


class Watcher(Protocol):
    """What shows how fitting goes on."""

    def on_step(self, epoch: int, loss: float, accuracy: float) -> None: ...
    def on_epoch(self, line: dict[str, Any]) -> None: ...


def fit(
    cnn: SentimentCNN,
    fitted: Examples,
    held_out: Examples,
    recipe: Recipe,
    run: Run,
    *,
    watcher: Watcher,
    on_epoch: Callable[[], None],
) -> bool:
    """Go on with `run` and leave `cnn` with the weights of its best epoch; `on_epoch` is called when `run`
    has come to another one.

    Ctrl-C ends the run with the best weights so far, and the answer is False: there is more to do. Before the
    first epoch is done there are none, and KeyboardInterrupt is raised.
    """
    cnn.load_state_dict(run.latest)
    optimizer = torch.optim.AdamW(
        cnn.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    if run.optimizer:
        optimizer.load_state_dict(run.optimizer)
    noise = _unknown_share(fitted, cnn, recipe)
    done = True
    try:
        while run.epoch < recipe.epochs and run.epoch - run.best_epoch < recipe.patience:
            average = {name: value.clone() for name, value in run.average.items()}
            line = _epoch(cnn, average, fitted, recipe, optimizer, run, noise, watcher)
            latest = weights_of(cnn)
            cnn.load_state_dict(average)
            line |= _measured(logits_of(cnn, held_out), held_out.classes)
            cnn.load_state_dict(latest)
            run.epoch, run.latest, run.average, run.optimizer = (
                run.epoch + 1,
                latest,
                average,
                optimizer.state_dict(),
            )
            run.history.append(line)
            if line["validation_loss"] < run.best_loss:
                run.best_loss, run.best_epoch, run.best = line["validation_loss"], run.epoch, average
            watcher.on_epoch(line)
            on_epoch()
    except KeyboardInterrupt:
        if not run.history:
            raise
        done = False
    cnn.load_state_dict(run.best)
    return done


def logits_of(cnn: SentimentCNN, examples: Examples) -> Tensor:
    """float32[rows, classes] for whole texts, in eval mode."""
    cnn.eval()
    frozen, pad = FrozenFeatures(cnn), cnn.embedding.padding_idx or 0
    logits = torch.zeros(len(examples), cnn.shape.classes)
    with torch.no_grad():
        for places in examples.batches(EVALUATION_ROWS):
            logits[places] = cnn.fc(frozen(*examples.padded(places, pad)))
    return logits


def _epoch(
    cnn: SentimentCNN,
    average: dict[str, Tensor],
    fitted: Examples,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    run: Run,
    noise: Tensor,
    watcher: Watcher,
) -> dict[str, Any]:
    """One pass over the fitted texts; changes `cnn` and `average`."""
    torch.manual_seed(recipe.seed * 100_003 + run.epoch)
    random = np.random.default_rng([recipe.seed, run.epoch])
    pad, steps = cnn.embedding.padding_idx or 0, recipe.steps(len(fitted))
    loss_sum, right, seen = 0.0, 0, 0
    cnn.train()
    for step, places in enumerate(fitted.batches(recipe.batch, random), start=run.epoch * steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe.epochs * steps)
        ids, lengths = fitted.padded(places, pad)
        ids = ids.masked_fill(torch.rand(ids.shape) < noise[ids], UNKNOWN_ID)
        logits = cnn.fc(
            cnn.dropout(
                features(
                    cnn,
                    ids,
                    lengths,
                    vector_dropout=recipe.vector_dropout,
                    window_dropout=recipe.window_dropout,
                )
            )
        )
        loss = torch.nn.functional.cross_entropy(logits, run.targets[places])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # the first steps are forgotten sooner, or the random start would stay in the average
        _average(average, cnn, min(recipe.averaging, (step + 1) / (step + 11)))
        loss_sum += loss.item() * len(places)
        right += int((logits.argmax(dim=1) == fitted.classes[places]).sum())
        seen += len(places)
        watcher.on_step(run.epoch + 1, loss_sum / seen, right / seen)
    return {"epoch": run.epoch + 1, "loss": loss_sum / seen, "accuracy": right / seen}


def _measured(logits: Tensor, classes: Tensor) -> dict[str, float]:
    return {
        "validation_loss": float(torch.nn.functional.cross_entropy(logits, classes)),
        "validation_accuracy": float((logits.argmax(dim=1) == classes).float().mean()),
    }


def _schedule(step: int, steps: int) -> float:
    """The share of the learning rate: rising for the first twentieth, then a cosine down to zero (Loshchilov
    & Hutter, 2017).
    """
    return min(1.0, (step + 1) / max(1.0, 0.05 * steps)) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def _unknown_share(fitted: Examples, cnn: SentimentCNN, recipe: Recipe) -> Tensor:
    """float32[vocabulary]: how often a word is replaced by <unk>; padding never is."""
    counts = np.bincount(np.concatenate(fitted.rows), minlength=cnn.shape.vocabulary)
    rare = recipe.rare_words / np.maximum(recipe.rare_words + counts, 1e-9)
    share = 1 - (1 - recipe.word_dropout) * (1 - rare)
    share[cnn.embedding.padding_idx or 0] = 0
    return torch.from_numpy(share.astype(np.float32))


@torch.no_grad()
def _average(average: dict[str, Tensor], cnn: SentimentCNN, kept: float) -> None:
    parameters = dict(cnn.named_parameters())
    torch._foreach_lerp_(
        [average[name] for name in parameters], [value.detach() for value in parameters.values()], 1 - kept
    )
