"""Fit the network: a held-out tenth of the training texts decides which epoch is kept; the test texts only give the final figure."""

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from export.cnn import Network, SentimentCNN, Shape
from export.dataset import Examples, build_vocabulary, read_labelled
from export.vocabulary import PAD, UNKNOWN
from server.errors import BadInput
from server.tokenizer import Tokenizer

VOCABULARY, DIMENSIONS, FILTERS, WIDTHS = 20_000, 300, 100, (3, 5, 7)
BATCH, LEARNING_RATE, DROPOUT, HELD_OUT = 64, 1e-3, 0.4, 0.1
TRAINING_TOKENS = 256
"""Tokens of a text that a training step sees; evaluation sees the whole text."""


def train_network(train: Path, test: Path | None, *, text: str, label: str, epochs: int, seed: int, console: Console) -> Network:
    """Raises BadInput for files that cannot be trained on."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    texts, names = read_labelled(train, text, label)
    labels = tuple(sorted(set(names)))
    if len(labels) < 2:
        raise BadInput(f'{train}: the column "{label}" holds one class only ({labels[0]}); there is nothing to tell apart.')
    tested = read_labelled(test, text, label) if test else ([], [])
    unseen = sorted(set(tested[1]) - set(labels))
    if unseen:
        raise BadInput(f"{test}: labels that {train} never shows: {', '.join(unseen)}.")
    order = random.permutation(len(texts))
    held_out, fitted = np.split(order, [max(1, int(len(texts) * HELD_OUT))])
    tokens = build_vocabulary([texts[i] for i in fitted], VOCABULARY)
    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(ids, unknown=ids[UNKNOWN], pad=ids[PAD], min_length=max(WIDTHS))

    def examples(texts: list[str], names: list[str]) -> Examples:
        return Examples([tokenizer.encode(each) for each in texts], [labels.index(name) for name in names])

    everything = examples(texts, names)
    fit = Examples([everything.rows[i] for i in fitted], [everything.classes[i] for i in fitted])
    validation = Examples([everything.rows[i] for i in held_out], [everything.classes[i] for i in held_out])
    cnn = SentimentCNN(Shape(len(tokens), DIMENSIONS, FILTERS, WIDTHS, len(labels)), pad=ids[PAD], dropout=DROPOUT)
    torch.nn.init.normal_(cnn.embedding.weight, std=0.1)
    best = _fit(cnn, fit, validation, epochs, random, console)
    metrics = {"validation_accuracy": best, "train_rows": len(texts), "epochs": epochs, "seed": seed}
    if test:
        metrics |= {"test_accuracy": accuracy(cnn, examples(*tested)), "test_rows": len(tested[0])}
        console.print(f"test accuracy: {metrics['test_accuracy']:.4f} on {len(tested[0]):,} texts")
    return Network(cnn, tuple(tokens), ids[UNKNOWN], ids[PAD], labels, metrics=metrics)


@torch.inference_mode()
def accuracy(cnn: SentimentCNN, examples: Examples) -> float:
    """Share of texts whose most probable class is theirs; whole texts, eval mode."""
    cnn.eval()
    right = 0
    for ids, lengths, classes in examples.batches(32, np.random.default_rng(0), pad=cnn.embedding.padding_idx or 0, max_tokens=10**9):
        right += int((cnn(ids, lengths).argmax(dim=1) == classes).sum())
    return right / len(examples.rows)


def _fit(cnn: SentimentCNN, fit: Examples, validation: Examples, epochs: int, random: np.random.Generator, console: Console) -> float:
    """Leave `cnn` with the weights of its best epoch, rounded to float16 (see `export.fold`); returns that epoch's accuracy."""
    optimizer = torch.optim.AdamW(cnn.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    best, kept = -1.0, cnn.state_dict()
    with Progress(
        TextColumn("epoch {task.fields[epoch]}, loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("fit", total=epochs * -(-len(fit.rows) // BATCH), epoch=1, loss=0.0)
        for epoch in range(1, epochs + 1):
            cnn.train()
            for ids, lengths, classes in fit.batches(BATCH, random, pad=cnn.embedding.padding_idx or 0, max_tokens=TRAINING_TOKENS):
                loss = torch.nn.functional.cross_entropy(cnn(ids, lengths), classes)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                bar.update(task, advance=1, epoch=epoch, loss=loss.item())
            score = accuracy(cnn, validation)
            console.print(f"epoch {epoch}: validation accuracy {score:.4f}")
            if score <= best:
                break
            best, kept = score, {name: value.clone() for name, value in cnn.state_dict().items()}
    cnn.load_state_dict({name: value.half().float() for name, value in kept.items()})
    return best
