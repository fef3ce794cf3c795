"""Training loop: regularized fitting with averaged weights, early stopping, and state for a resumed run.

    batch ─▶ word and vector dropout ─▶ features ─▶ dropout ─▶ logits ─▶ cross entropy with the targets
          ─▶ AdamW ─▶ running average

The running average of the weights (Polyak & Juditsky, 1992) is what held-out texts measure and what is
exported. The randomness of an epoch depends on the seed and the epoch's number only, so a resumed run gives
the same weights.
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
"""Batch size for evaluation."""

UNKNOWN_ID = 0
"""The id of <unk>, the first token of a vocabulary built for training."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters. The defaults trained the default bundle; docs/training.md lists the alternatives
    tried.
    """

    seed: int = 1
    epochs: int = 6
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.5
    """Dropout of the features before the last layer."""
    vector_dropout: float = 0.3
    """Dropout of each word's vector, the same throughout a batch."""
    window_dropout: float = 0.3
    """Share of the windows excluded from the maximum over time."""
    word_dropout: float = 0.1
    """Share of the words replaced by <unk>."""
    rare_words: float = 3.0
    """A word that occurs n times is also replaced by <unk> with probability rare_words / (rare_words + n):
    Kiperwasser & Goldberg (2016), §4.
    """
    averaging: float = 0.998
    """Decay of the running average of the weights at each step."""
    patience: int = 3
    """Early stopping: epochs without a better log loss on held-out texts."""

    def steps(self, rows: int) -> int:
        """Steps of one epoch over `rows` texts."""
        return -(-rows // self.batch)


class FitObserver(Protocol):
    """Gets the progress of a fit. `line` is an entry of `Run.history`."""

    def on_step(self, epoch: int, loss: float, accuracy: float) -> None: ...
    def on_epoch(self, line: dict[str, Any]) -> None: ...


def fit(
    cnn: SentimentCNN,
    fitted: Examples,
    held_out: Examples,
    recipe: Recipe,
    run: Run,
    *,
    observer: FitObserver,
    on_epoch: Callable[[], None],
) -> bool:
    """Continue `run` to its end and load the weights of its best epoch into `cnn`; `on_epoch` is called after
    each epoch.

    Returns True if the run is complete. After Ctrl-C it returns False, with the best weights so far; before
    the end of the first epoch there are none, and KeyboardInterrupt is raised.
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
            line = _epoch(cnn, average, fitted, recipe, optimizer, run, noise, observer)
            latest = weights_of(cnn)
            cnn.load_state_dict(average)
            line |= _validation_metrics(logits_of(cnn, held_out), held_out.classes)
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
            observer.on_epoch(line)
            on_epoch()
    except KeyboardInterrupt:
        if not run.history:
            raise
        done = False
    cnn.load_state_dict(run.best)
    return done


def logits_of(cnn: SentimentCNN, examples: Examples) -> Tensor:
    """Logits float32[rows, classes] in eval mode."""
    cnn.eval()
    frozen, pad = FrozenFeatures(cnn), cnn.embedding.padding_idx or 0
    logits = torch.zeros(len(examples), cnn.shape.classes)
    with torch.no_grad():
        for indices in examples.batches(EVALUATION_ROWS):
            logits[indices] = cnn.fc(frozen(*examples.padded(indices, pad)))
    return logits


def _epoch(
    cnn: SentimentCNN,
    average: dict[str, Tensor],
    fitted: Examples,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    run: Run,
    noise: Tensor,
    observer: FitObserver,
) -> dict[str, Any]:
    """One pass over the fitted texts; updates `cnn` and `average`. Returns its entry in the history."""
    torch.manual_seed(recipe.seed * 100_003 + run.epoch)
    random = np.random.default_rng([recipe.seed, run.epoch])
    pad, steps = cnn.embedding.padding_idx or 0, recipe.steps(len(fitted))
    loss_sum, correct, seen = 0.0, 0, 0
    cnn.train()
    for step, indices in enumerate(fitted.batches(recipe.batch, random), start=run.epoch * steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe.epochs * steps)
        ids, lengths = fitted.padded(indices, pad)
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
        loss = torch.nn.functional.cross_entropy(logits, run.targets[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        # a lower decay in the first steps, or the random initial weights would stay in the average
        _average(average, cnn, min(recipe.averaging, (step + 1) / (step + 11)))
        loss_sum += loss.item() * len(indices)
        correct += int((logits.argmax(dim=1) == fitted.classes[indices]).sum())
        seen += len(indices)
        observer.on_step(run.epoch + 1, loss_sum / seen, correct / seen)
    return {"epoch": run.epoch + 1, "loss": loss_sum / seen, "accuracy": correct / seen}


def _validation_metrics(logits: Tensor, classes: Tensor) -> dict[str, float]:
    return {
        "validation_loss": float(torch.nn.functional.cross_entropy(logits, classes)),
        "validation_accuracy": float((logits.argmax(dim=1) == classes).float().mean()),
    }


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up over the first twentieth, cosine decay to zero (Loshchilov
    & Hutter, 2017).
    """
    return min(1.0, (step + 1) / max(1.0, 0.05 * steps)) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def _unknown_share(fitted: Examples, cnn: SentimentCNN, recipe: Recipe) -> Tensor:
    """float32[vocabulary]: the probability that a word is replaced by <unk>; 0 for padding."""
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
