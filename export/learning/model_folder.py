"""Learned bundles of a project: `models/p<project>/<version>` in the learner's folder."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from export.classifier import FittedClassifier, publish_classifier
from server.bundle import Bundle, read_bundle
from server.errors import BadBundle
from server.learning.forget import models_of

KEPT = 5
"""Bundles of a project that are kept, apart from those that it serves and would go back to."""


def publish_learned(classifier: FittedClassifier, name: str, learn_folder: Path, project: int) -> Bundle:
    """Publish a bundle of this name after its parity check. Raises NotProven, BadInput."""
    folder = models_of(learn_folder, project)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # by process: a learner that was killed may have left its own
    temporary = folder / f".new.{os.getpid()}" / name
    try:
        bundle = publish_classifier(classifier, temporary, torchscript=False, force=True)
        path = folder / bundle.version
        if path.exists():  # the same content was published before
            return read_bundle(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)
    return read_bundle(path)


def learned_bundle(learn_folder: Path, project: int, version: str) -> Bundle | None:
    """The bundle of this version; None if it is gone or damaged, or `version` is ""."""
    if not version:
        return None
    try:
        return read_bundle(models_of(learn_folder, project) / version)
    except BadBundle:
        return None


def prune(learn_folder: Path, project: int, keep: Collection[str]) -> list[str]:
    """Delete all bundles but the latest KEPT and those to `keep`; returns the versions that are gone."""
    folder = models_of(learn_folder, project)
    if not folder.is_dir():
        return []
    bundles = sorted(
        (path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns
    )
    gone = [path for path in bundles[:-KEPT] if path.name not in keep]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in gone]
