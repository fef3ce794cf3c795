"""`prelabel train --encoder cnn`: asks for torch in a sentence where it is not installed."""

from pathlib import Path

from rich.console import Console

from export.training.options import TrainingOptions
from server.bundle import Bundle
from server.errors import BadSetting
from server.offline.labelled import LabelledSource


def train_cnn(
    source: LabelledSource,
    test: Path | None,
    out: Path,
    options: TrainingOptions,
    console: Console,
    *,
    torchscript: bool,
    force: bool,
    resume: bool,
    plots: Path | None,
) -> Bundle:
    """Train the tutorial's network and publish it. Raises BadSetting without torch, BadInput."""
    try:
        from export.training.dataset import TrainingSource
        from export.training.pipeline import train_bundle
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"--encoder cnn needs {error.name}, which is not installed: install prelabel[export], or train "
            "n-grams (--encoder ngrams)."
        ) from None
    return train_bundle(
        TrainingSource.of(source, test),
        out,
        options,
        console,
        torchscript=torchscript,
        force=force,
        resume=resume,
        plots_folder=plots,
    )
