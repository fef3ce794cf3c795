"""The command `prelabel train`: reads the labelled texts, and trains what the options ask for."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from export.training.by_evidence import train_by_evidence
from export.training.labeling_config import renamed_column
from export.training.options import TrainingOptions
from server.bundle import Bundle
from server.errors import BadSetting
from server.offline.labelled import LabelledSource
from server.offline.labelled_source import LabelledOptions, labelled_source


@dataclass(frozen=True)
class TrainCommand:
    """What `prelabel train` is given besides the labelled texts. `encoder` is auto, ngrams or cnn."""

    out: Path
    test: Path | None
    encoder: str
    start_from: Path | None
    resume: bool
    plots: Path | None
    torchscript: bool
    force: bool


def train(
    labelled: LabelledOptions, command: TrainCommand, options: TrainingOptions, console: Console
) -> Bundle:
    """Train and publish a bundle. Raises PrelabelError."""
    options.check(command.encoder, start_from=command.start_from, resume=command.resume, plots=command.plots)
    with labelled_source(labelled, console) as source:
        if command.encoder == "cnn":
            bundle = _train_cnn(source, command, options, console)
        else:
            bundle = _train_by_evidence(source, command, options, console)
        if (sentence := renamed_column(source)) is not None:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        return bundle


def _train_by_evidence(
    source: LabelledSource, command: TrainCommand, options: TrainingOptions, console: Console
) -> Bundle:
    try:
        return train_by_evidence(
            source,
            command.test,
            command.out,
            options,
            console,
            encoder=command.encoder,
            start_from=command.start_from,
            torchscript=command.torchscript,
            force=command.force,
        )
    except KeyboardInterrupt:
        console.print("Stopped; nothing was published.")
        raise


def _train_cnn(
    source: LabelledSource, command: TrainCommand, options: TrainingOptions, console: Console
) -> Bundle:
    """Train the tutorial's network alone. Raises BadSetting without torch, BadInput."""
    try:
        from export.training.dataset import TrainingSource
        from export.training.pipeline import train_bundle
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"--encoder cnn needs {error.name}, which is not installed: install prelabel[export], or train "
            "n-grams (--encoder ngrams)."
        ) from None
    return train_bundle(
        TrainingSource.of(source, command.test),
        command.out,
        options,
        console,
        torchscript=command.torchscript,
        force=command.force,
        resume=command.resume,
        plots_folder=command.plots,
    )
