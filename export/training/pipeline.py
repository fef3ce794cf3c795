"""Training pipeline: labelled texts in, a published bundle out.

    read ─▶ hold out ─▶ tokenizer ─▶ word vectors, teacher ─▶ fit ─▶ float16 ─▶ temperature ─▶ metrics
    ─▶ bundle

A tenth of the *training* texts is held out. It alone selects the epoch and the temperature. The test texts
are used once, at the end, for the final metrics.
"""

import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from export.cnn import Network, NetworkShape, SentimentCNN
from export.publish import check_name
from export.publish_checkpoint import export_bundle
from export.reproducible import reproducible
from export.training.calibration import finish
from export.training.console import FitBar, print_metrics, print_warnings
from export.training.dataset import Examples, TrainingSource, read_data
from export.training.evidence import Fold
from export.training.labeling_config import labeling_config
from export.training.loop import Recipe, fit
from export.training.options import TrainingOptions
from export.training.stage_bar import stage_bar
from export.training.state import Run
from export.training.teacher import teacher_probabilities
from export.training.tokens import reason
from export.training.word_vectors import PASSES, word_vectors
from export.vocabulary import PAD, UNKNOWN
from server.bundle import LABELING_CONFIG, Bundle
from server.errors import BadInput
from server.evaluate import plots

DIMENSIONS, FILTERS, WIDTHS = 300, 100, (3, 5, 7)
"""The tutorial's network."""

SPREAD = 0.1
"""Standard deviation of the initial word vectors."""

MIN_STEPS = 600
"""Minimum steps of a run, for which few texts get more epochs: a hundred texts are two steps an epoch."""


def train_bundle(
    source: TrainingSource,
    out: Path,
    options: TrainingOptions,
    console: Console,
    *,
    torchscript: bool = True,
    force: bool = False,
    resume: bool = False,
    plots_folder: Path | None = None,
) -> Bundle:
    """Train on `source` and publish the bundle `out`. Raises BadInput.

    Ctrl-C publishes the best weights so far. A later call with `resume` continues from the last complete
    epoch, also after a kill.
    """
    state = out.with_name(f".{out.name}.training")
    resumes = resume and state.exists()
    check_name(out, force=force or resumes)
    if plots_folder is not None:
        plots.check_available()
    network, done = train_network(source, options, console, state=state, resume=resume)
    config = labeling_config(source.labelled(source.train), network.labels, several=False)
    bundle = export_bundle(
        network,
        out,
        files={LABELING_CONFIG: config.encode()},
        torchscript=torchscript,
        force=force or resumes,
        on_report=console.print,
    )
    if plots_folder is not None:
        plots.learning_curve(
            network.metrics["history"], network.metrics["best_epoch"], plots_folder / "learning-curve.png"
        )
    if done:
        state.unlink(missing_ok=True)
    else:
        console.print(
            "Stopped early; the best weights so far are published. The same command with --resume continues.",
            soft_wrap=True,
        )
    return bundle


@reproducible()
def train_network(
    source: TrainingSource,
    options: TrainingOptions,
    console: Console,
    *,
    state: Path | None = None,
    resume: bool = False,
    split: Fold | None = None,
) -> tuple[Network, bool]:
    """The network trained on `source`, and whether training is complete or was stopped by Ctrl-C. The file
    `state`, if given, is written after each epoch. `split` says which texts are held out; None is a tenth of
    each label. Raises BadInput.
    """
    torch.manual_seed(options.seed)
    started = time.monotonic()
    with console.status("reading the texts"):
        data = read_data(
            source,
            seed=options.seed,
            vocabulary=options.vocabulary,
            ignored=options.ignore,
            min_length=max(WIDTHS),
            split=split,
            tokenizer=options.tokenizer,
        )
    console.print(f"Tokenizer: {reason(data.evidence)}.", soft_wrap=True, highlight=False)
    recipe = _recipe(options, len(data.fitted))
    shape = NetworkShape(len(data.tokens), DIMENSIONS, FILTERS, WIDTHS, len(data.labels))
    cnn = SentimentCNN(shape, pad=data.tokens.index(PAD), dropout=recipe.dropout)
    key = _key(source, options)
    run = Run.load(state, key) if resume and state is not None else None
    if run is None:
        run = _new_run(cnn, data.fitted, options.seed, console)
    steps = recipe.steps(len(data.fitted))
    with FitBar(console, recipe.epochs * steps, done=run.epoch * steps) as bar:
        done = fit(
            cnn,
            data.fitted,
            data.held_out,
            recipe,
            run,
            observer=bar,
            on_epoch=lambda: _save(run, state, key),
        )
    with console.status("calibrating and measuring"):
        temperature, figures = finish(cnn, data)
    metrics: dict[str, Any] = {
        "recipe": asdict(recipe),
        "options": asdict(options),
        "tokenizer": data.evidence,
        "texts": {"fitted": len(data.fitted), "held_out": len(data.held_out), "left_out": data.left_out},
        "seconds": round(time.monotonic() - started),
        "history": run.history,
        "best_epoch": run.best_epoch,
        **figures,
    }
    print_metrics(metrics, temperature, console)
    print_warnings(metrics["held_out"], data.held_out, console)
    network = Network(
        cnn,
        data.tokens,
        data.tokens.index(UNKNOWN),
        data.tokens.index(PAD),
        data.labels,
        temperature=temperature,
        metrics=metrics,
        learned=data.learned,
    )
    return network, done


def _recipe(options: TrainingOptions, rows: int) -> Recipe:
    default = Recipe()
    epochs = options.epochs or max(default.epochs, -(-MIN_STEPS // default.steps(rows)))
    return replace(default, seed=options.seed, epochs=epochs, patience=max(default.patience, epochs // 5))


def _new_run(cnn: SentimentCNN, fitted: Examples, seed: int, console: Console) -> Run:
    """A new run: the network with its initial vectors, and its targets, the mean of label and teacher."""
    shape = cnn.shape
    with stage_bar(console, "word vectors", PASSES) as advance:
        vectors = word_vectors(
            fitted.rows, shape.vocabulary, shape.dimensions, seed=seed, spread=SPREAD, on_pass=advance
        )
    with torch.no_grad():
        cnn.embedding.weight.copy_(torch.from_numpy(vectors))
        cnn.embedding.weight[cnn.embedding.padding_idx] = 0
    targets = torch.nn.functional.one_hot(fitted.classes, shape.classes).float()
    with stage_bar(console, "teacher", None):
        soft = teacher_probabilities(fitted.rows, fitted.classes.tolist(), seed=seed)
    if soft is not None:
        targets = (targets + torch.from_numpy(soft)) / 2
    return Run.start(cnn, targets)


def _save(run: Run, state: Path | None, key: str) -> None:
    if state is None:
        return
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        run.save(state, key)
    except OSError as error:
        raise BadInput(f"{state}: cannot be written ({error.strerror}).") from None


def _key(source: TrainingSource, options: TrainingOptions) -> str:
    """A digest of everything that decides a run: the training file, its columns, the options, the recipe."""
    stat = source.train.stat()
    parts = [
        source.train.resolve(),
        stat.st_size,
        stat.st_mtime_ns,
        source.text,
        source.label,
        options,
        Recipe(),
    ]
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()
