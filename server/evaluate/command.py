"""The command `prelabel evaluate`: measures, prints the report, and draws the pictures."""

from pathlib import Path

from rich.console import Console

from server.evaluate.evaluate import evaluate_file
from server.evaluate.plots import check_available
from server.evaluate.report import draw, show
from server.offline.classifier import open_classifier
from server.offline.labelled import LabelledSource
from server.offline.progress_bar import progress_bar, size_of
from server.offline.truncation import Truncation, truncation_sentence
from server.settings import Settings


def evaluate_bundle(
    source: LabelledSource,
    settings: Settings,
    console: Console,
    *,
    by: str | None,
    plots: Path | None,
) -> None:
    """Measure the settings' bundle on the labelled texts of `source`; tables go to stdout. Raises
    PrelabelError.
    """
    if plots is not None:
        check_available()
    with open_classifier(settings) as classifier, progress_bar(console, size_of(source.path)) as on_progress:
        result = evaluate_file(
            source,
            classifier,
            label_map=settings.label_map,
            threshold=settings.scoring.threshold,
            by=by,
            on_progress=on_progress,
        )
    version, engine = classifier.bundle.version, classifier.engine
    console.print(
        f"{version} on {source.path}, {engine.name} on {engine.device}", markup=False, soft_wrap=True
    )
    show(result, Console(), by=by)
    if result.truncated:
        sentence = truncation_sentence(result.truncated, Truncation.of(classifier.bundle))
        console.print(sentence, markup=False, soft_wrap=True)
    if plots is not None:
        pictures = ", ".join(map(str, draw(result, plots, by=by)))
        console.print(f"Pictures: {pictures}", markup=False, soft_wrap=True)
