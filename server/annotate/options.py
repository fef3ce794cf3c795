"""What `prelabel annotate` annotates."""

from dataclasses import dataclass

BATCH = 10_000
"""Predictions per request. After each request Label Studio recounts all tasks of the project, so a few large
requests are fastest.
"""


@dataclass(frozen=True)
class AnnotateOptions:
    """`view` is the id of a Data Manager tab, None for all tasks of the project."""

    project: int
    batch: int = BATCH
    view: int | None = None
    only_unlabeled: bool = False
    dry_run: bool = False
