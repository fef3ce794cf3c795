"""The command `prelabel predict`, in this process."""

from pathlib import Path

from rich.console import Console

from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.offline.predict_plan import PredictOptions, plan_of
from server.offline.progress_bar import progress_bar, size_of
from server.offline.truncation import Truncation, truncation_sentence
from server.settings import Settings


def predict_here(
    source: Path, out: Path, options: PredictOptions, settings: Settings, console: Console, *, resume: bool
) -> None:
    """Predict the rows of `source` and print what was written. Raises PrelabelError."""
    options.check()
    classifier = open_classifier(settings)
    plan, text = plan_of(options, classifier.bundle, settings)
    with classifier, progress_bar(console, size_of(source)) as on_progress:
        labeler = Labeler(classifier, plan, settings.scoring, text)
        done = predict_file(source, out, labeler, resume=resume, on_progress=on_progress)
    console.print(
        f"{done.rows:,} tasks in {out}, {done.without_text:,} of them without text. "
        f"Model version: {labeler.version}",
        markup=False,
        soft_wrap=True,
    )
    if done.truncated:
        sentence = truncation_sentence(done.truncated, Truncation.of(classifier.bundle))
        console.print(sentence, markup=False, soft_wrap=True)
