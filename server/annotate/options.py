"""What `prelabel annotate` annotates."""

from dataclasses import dataclass

from server.errors import BadSetting
from server.scoring import Score

BATCH = 10_000
"""Predictions per request. After each request Label Studio recounts all tasks of the project, so a few large
requests are fastest.
"""


@dataclass(frozen=True)
class AnnotateOptions:
    """`view` is the id of a Data Manager tab, None for all tasks of the project. With `accept_above`,
    predictions of at least this confidence become annotations, and none is stored as a prediction.
    """

    project: int
    batch: int = BATCH
    view: int | None = None
    only_unlabeled: bool = False
    dry_run: bool = False
    accept_above: float | None = None

    def check(self, score: Score | None) -> None:
        """Raises BadSetting for options that exclude each other."""
        if self.accept_above is None:
            return
        if self.view is not None:
            raise BadSetting("--accept-above looks at all tasks without an annotation: leave out --view.")
        if score not in (None, "confidence"):
            raise BadSetting(f"--accept-above compares confidences: leave out --score {score}.")
