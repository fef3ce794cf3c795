"""Labelled texts → a bundle: the story of `prelabel train`, in order.

    read ─▶ hold out ─▶ vocabulary ─▶ word vectors, teacher's opinions ─▶ fit ─▶ temperature ─▶ float16 ─▶ figures ─▶ bundle

A tenth of the *training* texts is held out; it alone decides which epoch is kept, and the temperature. The test texts are
looked at once, at the end, for the final figures.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from export.calibration import fit_temperature
from export.cnn import Network, SentimentCNN, Shape
from export.dataset import Examples, Texts, build_vocabulary, hold_out, read_texts
from export.fitting import Recipe, Run, fit, logits_of
from export.publish import check_name, export_bundle
from export.teacher import opinions
from export.vocabulary import PAD, UNKNOWN
from export.word_vectors import PASSES, word_vectors
from server import plots
from server.bundle import Bundle
from server.errors import BadInput
from server.figures import Figures, wilson
from server.tokenizer import Tokenizer

DIMENSIONS, FILTERS, WIDTHS = 300, 100, (3, 5, 7)
"""The tutorial's network."""

SPREAD = 0.1
"""Standard deviation of the initial word vectors."""

HELD_OUT = 0.1
LEAST_CALIBRATED = 100
"""Held-out texts below which the temperature stays 1: it would be fitted to chance."""

LEAST_STEPS = 600
"""Steps below which a run has more epochs: a hundred texts give two steps an epoch."""


@dataclass(frozen=True)
class Source:
    """Where the labelled texts are: `text` and `label` name columns, or in Label Studio's export a column and a control."""

    train: Path
    test: Path | None
    text: str
    label: str


@dataclass(frozen=True)
class Options:
    """`epochs` None: as many as the recipe has, or more where there are few texts. `ignore`: tokens that the network must not see."""

    seed: int = 1
    epochs: int | None = None
    vocabulary: int = 30_000
    ignore: str = ""


def train_bundle(
    source: Source,
    out: Path,
    options: Options,
    console: Console,
    *,
    torchscript: bool = True,
    force: bool = False,
    resume: bool = False,
    plots_folder: Path | None = None,
) -> Bundle:
    """Train on `source` and publish the bundle `out`. Raises BadInput.

    Ctrl-C publishes the best weights so far; a later call with `resume` goes on from the last whole epoch, also after a kill.
    """
    note = out.with_name(f".{out.name}.training")
    resumes = resume and note.exists()
    check_name(out, force=force or resumes)
    if plots_folder is not None:
        plots.check_available()
    network, done = train_network(source, options, console, note=note, resume=resume)
    bundle = export_bundle(network, out, torchscript=torchscript, force=force or resumes, on_report=console.print)
    if plots_folder is not None:
        plots.learning_curve(network.metrics["history"], network.metrics["best_epoch"], plots_folder / "learning-curve.png")
    if done:
        note.unlink(missing_ok=True)
    else:
        console.print("Stopped early; the best weights so far are published. The same command with --resume goes on.", soft_wrap=True)
    return bundle


def train_network(source: Source, options: Options, console: Console, *, note: Path, resume: bool = False) -> tuple[Network, bool]:
    """The network of `source`, and whether it is done or was stopped by Ctrl-C; `note` is kept from epoch to epoch. Raises BadInput."""
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    started = time.monotonic()
    data = _read(source, options, console)
    recipe = _recipe(options, len(data.fitted))
    shape = Shape(len(data.tokens), DIMENSIONS, FILTERS, WIDTHS, len(data.labels))
    cnn = SentimentCNN(shape, pad=data.tokens.index(PAD), dropout=recipe.dropout)
    key = _key(source, options)
    run = Run.load(note, key) if resume else None
    if run is None:
        run = _prepared(cnn, data.fitted, options.seed, console)
    steps = -(-len(data.fitted) // recipe.batch)
    with _Bar(console, recipe.epochs * steps, done=run.epoch * steps) as bar:
        done = fit(cnn, data.fitted, data.held_out, recipe, run, watcher=bar, on_epoch=lambda: _save(run, note, key))
    with console.status("calibrating and measuring"):
        temperature, figures = _finish(cnn, data)
    metrics: dict[str, Any] = {
        "recipe": asdict(recipe),
        "options": asdict(options),
        "texts": {"fitted": len(data.fitted), "held_out": len(data.held_out), "left_out": data.left_out},
        "seconds": round(time.monotonic() - started),
        "history": run.history,
        "best_epoch": run.best_epoch,
        **figures,
    }
    _tell(metrics, temperature, console)
    _warn(metrics["held_out"], data.held_out, console)
    network = Network(cnn, data.tokens, data.tokens.index(UNKNOWN), data.tokens.index(PAD), data.labels, temperature=temperature, metrics=metrics)
    return network, done


@dataclass(frozen=True)
class _Data:
    """What is fitted, what is held out of the training texts, and the test texts, all as ids of `tokens`."""

    labels: tuple[str, ...]
    tokens: tuple[str, ...]
    fitted: Examples
    held_out: Examples
    test: Examples | None
    left_out: int


def _read(source: Source, options: Options, console: Console) -> _Data:
    with console.status("reading the texts"):
        texts = read_texts(source.train, source.text, source.label)
        labels = tuple(sorted(set(texts.labels)))
        if len(labels) < 2:
            raise BadInput(f'{source.train}: "{source.label}" holds one class only ({labels[0]}); there is nothing to tell apart.')
        tested = read_texts(source.test, source.text, source.label) if source.test else None
        unseen = sorted(set(tested.labels) - set(labels)) if tested else []
        if unseen:
            raise BadInput(f"{source.test}: labels that {source.train} never shows: {', '.join(unseen)}.")
        fitted, held_out = hold_out(texts, HELD_OUT, np.random.default_rng(options.seed), source.train)
        tokens = tuple(build_vocabulary([texts.texts[i] for i in fitted], options.vocabulary, options.ignore))
        examples = _examples(texts, labels, tokens)
        test = _examples(tested, labels, tokens) if tested else None
    return _Data(labels, tokens, examples.take(fitted), examples.take(held_out), test, texts.left_out)


def _finish(cnn: SentimentCNN, data: _Data) -> tuple[float, dict[str, Any]]:
    """Round the weights to float16, as the bundle stores them, and fit the temperature: (temperature, figures before and after)."""
    parts = {"held_out": data.held_out} | ({"test": data.test} if data.test is not None else {})
    exact = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    cnn.load_state_dict({name: value.half().float() for name, value in cnn.state_dict().items()})
    logits = {name: logits_of(cnn, examples) for name, examples in parts.items()}
    temperature = fit_temperature(logits["held_out"], data.held_out.classes) if len(data.held_out) >= LEAST_CALIBRATED else 1.0
    figures = {}
    for name, examples in parts.items():
        figures[name] = _figures(logits[name], examples, temperature)
        figures[f"{name}_uncalibrated"] = _figures(logits[name], examples, 1.0)
        figures[f"{name}_before_float16"] = _figures(exact[name], examples, temperature)
    return temperature, figures


def _examples(data: Texts, labels: tuple[str, ...], tokens: tuple[str, ...]) -> Examples:
    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(ids, unknown=ids[UNKNOWN], pad=ids[PAD], min_length=max(WIDTHS))
    return Examples([tokenizer.encode(text) for text in data.texts], torch.tensor([labels.index(name) for name in data.labels]))


def _recipe(options: Options, rows: int) -> Recipe:
    usual = Recipe()
    epochs = options.epochs or max(usual.epochs, -(-LEAST_STEPS // -(-rows // usual.batch)))
    return replace(usual, seed=options.seed, epochs=epochs, patience=max(usual.patience, epochs // 5))


def _prepared(cnn: SentimentCNN, fitted: Examples, seed: int, console: Console) -> Run:
    """The network with initial vectors, and what it is to learn: the mean of label and teacher's opinion."""
    shape = cnn.shape
    with _steps(console, "word vectors", PASSES) as advance:
        vectors = word_vectors(fitted.rows, shape.vocabulary, shape.dimensions, seed=seed, spread=SPREAD, on_pass=advance)
    with torch.no_grad():
        cnn.embedding.weight.copy_(torch.from_numpy(vectors))
        cnn.embedding.weight[cnn.embedding.padding_idx] = 0
    targets = torch.nn.functional.one_hot(fitted.classes, shape.classes).float()
    with _steps(console, "teacher", None):
        said = opinions(fitted.rows, fitted.classes.tolist(), seed=seed)
    if said is not None:
        targets = (targets + torch.from_numpy(said)) / 2
    return Run.start(cnn, targets)


def _figures(logits: Tensor, examples: Examples, temperature: float) -> dict[str, Any]:
    figures = Figures(logits.shape[1])
    figures.add(torch.softmax(logits / temperature, dim=1).numpy(), examples.classes.numpy())
    return {
        "texts": figures.rows,
        "accuracy": figures.accuracy,
        "interval_95": wilson(figures.right, figures.rows),
        "f1": figures.f1.tolist(),
        "log_loss": figures.log_loss,
        "calibration_error": figures.calibration_error,
    }


def _tell(metrics: dict[str, Any], temperature: float, console: Console) -> None:
    for name, what in (("held_out", "held-out training texts, which chose the epoch and the temperature"), ("test", "test texts")):
        if name in metrics:
            figures = metrics[name]
            low, high = figures["interval_95"]
            console.print(
                f"{figures['texts']:,} {what}: accuracy {figures['accuracy']:.4f} ({low:.4f} to {high:.4f}), "
                f"calibration error {figures['calibration_error']:.4f} at temperature {temperature:.3f}",
                soft_wrap=True,
                highlight=False,
            )


def _warn(figures: dict[str, Any], held_out: Examples, console: Console) -> None:
    """Say it when the held-out texts cannot tell the network from a guess, or are too few for honest confidences."""
    frequent = int(held_out.classes.bincount().max()) / len(held_out)
    if figures["interval_95"][0] <= frequent:
        console.print(
            f"[yellow]As far as {len(held_out):,} held-out texts can tell, this is no better than always giving the most frequent label ({frequent:.2f}): "
            "train on more labelled texts before you use it.[/yellow]",
            soft_wrap=True,
        )
    if len(held_out) < LEAST_CALIBRATED:
        console.print(
            f"[yellow]Confidences are not calibrated: that takes at least {LEAST_CALIBRATED} held-out texts, a tenth of the training texts.[/yellow]",
            soft_wrap=True,
        )


def _save(run: Run, note: Path, key: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        run.save(note, key)
    except OSError as error:
        raise BadInput(f"{note}: cannot be written ({error.strerror}).") from None


def _key(source: Source, options: Options) -> str:
    """A digest of what decides the run: the training file as it is now, its columns, the options, the recipe."""
    state = source.train.stat()
    parts = [source.train.resolve(), state.st_size, state.st_mtime_ns, source.text, source.label, options, Recipe()]
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()


@contextmanager
def _steps(console: Console, what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar for a stage before fitting; without `total` it only shows that work goes on."""
    with Progress(SpinnerColumn(), TextColumn(what), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
        bar.update(task, total=total or 1, completed=total or 1)


class _Bar:
    """The watcher of a fit: a bar with loss and accuracy, and a line an epoch."""

    def __init__(self, console: Console, steps: int, *, done: int) -> None:
        shown = TextColumn("epoch {task.fields[epoch]}, loss {task.fields[loss]:.3f}, accuracy {task.fields[accuracy]:.3f}")
        self._progress = Progress(shown, BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._task = self._progress.add_task("fit", total=steps, completed=done, epoch=1, loss=0.0, accuracy=0.0)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_step(self, epoch: int, loss: float, accuracy: float) -> None:
        self._progress.update(self._task, advance=1, epoch=epoch, loss=loss, accuracy=accuracy)

    def on_epoch(self, line: dict[str, Any]) -> None:
        self._progress.console.print(
            f"epoch {line['epoch']}: held-out loss {line['validation_loss']:.4f}, accuracy {line['validation_accuracy']:.4f}", highlight=False
        )
