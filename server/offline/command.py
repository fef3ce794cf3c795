"""The command `prelabel predict`, in this process."""

from pathlib import Path

from rich.console import Console

from server.errors import BadInput, BadLabelConfig
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.offline.progress_bar import progress_bar, size_of
from server.offline.records import read_text
from server.settings import Settings


def predict_here(
    source: Path, out: Path, label_config: Path | None, settings: Settings, console: Console, *, resume: bool
) -> None:
    """Predict the rows of `source` and print what was written. Raises PrelabelError."""
    classifier = open_classifier(settings)
    config = read_config(label_config)
    try:
        plan = read_plan(config, classifier.bundle.labels, settings.label_map)
    except BadLabelConfig as error:
        raise BadLabelConfig(f"{label_config or 'the default labeling config'}: {error}") from None
    with classifier, progress_bar(console, size_of(source)) as on_progress:
        labeler = Labeler(classifier, plan, settings.scoring)
        done = predict_file(source, out, labeler, resume=resume, on_progress=on_progress)
    console.print(
        f"{done.rows:,} tasks in {out}, {done.without_text:,} of them without text. "
        f"Model version: {labeler.version}",
        markup=False,
        soft_wrap=True,
    )


def read_config(path: Path | None) -> str:
    """A labeling config, the tutorial's without a path. Raises BadInput."""
    try:
        return TUTORIAL_CONFIG if path is None else read_text(path)
    except BadInput as error:
        raise BadInput(f"--label-config: {error}") from None
