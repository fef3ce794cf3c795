"""Lists the bundles in a folder, and marks those that a running server serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from server.bundle import Bundle, read_bundle
from server.errors import BadBundle, BadInput, one_line
from server.label_studio.ml_backend_client import MlBackendClient, NoResponse

SECONDS = 5.0
"""Timeout of the request to a running server."""

SHOWN_LABELS, SHOWN_LABEL = 10, 40
"""Most labels of a bundle in the list, and most characters of each."""


@dataclass(frozen=True)
class Entry:
    """A folder with a manifest: its bundle, or the problem with it; `size` is in bytes, of all its files."""

    path: Path
    bundle: Bundle | None
    problem: str
    size: int


def find_bundles(folder: Path) -> list[Entry]:
    """All bundles directly in `folder`, by name, with their checksums verified. Raises BadInput if there is
    none.
    """
    paths = sorted(manifest.parent for manifest in folder.glob("*/manifest.json"))
    if not paths:
        raise BadInput(
            f"{folder}: no bundle in this folder; make one with `prelabel export` or `prelabel train`."
        )
    return [_entry(path) for path in paths]


def served_versions(backend: str) -> set[str]:
    """The model versions that the server at this URL serves. Raises BadInput if it is no Prelabel server."""
    try:
        with MlBackendClient(backend.rstrip("/"), None, SECONDS) as client:
            models = client.health().get("models")
    except NoResponse as error:
        raise BadInput(f"{backend}: no response ({error}); check the URL and that the server runs.") from None
    if not isinstance(models, dict):
        raise BadInput(f"{backend}: expected a Prelabel server, found another; check the URL.")
    return {str(version) for version in models.values()}


def show(entries: list[Entry], served: set[str] | None, console: Console) -> None:
    """Print a table, and what is wrong with damaged bundles. `served` adds a column that marks the bundles
    with these versions.
    """
    folding = [Column(name, overflow="fold") for name in ("bundle", "version", "labels")]
    table = Table(*folding, "encoders", "accuracy", "MB", *(["serving"] if served is not None else []))
    for entry in entries:
        manifest = entry.bundle.manifest if entry.bundle else None
        table.add_row(
            escape(entry.path.name),
            manifest.version if manifest else "–",
            _labels(manifest.labels) if manifest else "–",
            " + ".join(dict.fromkeys(spec.kind for spec in manifest.encoders)) if manifest else "–",
            _accuracy(manifest.metrics) if manifest else "–",
            f"{entry.size / 1e6:.1f}",
            *(["✓" if manifest and manifest.version in served else ""] if served is not None else []),
        )
    console.print(table)
    for entry in entries:
        if entry.problem:
            console.print(entry.problem, markup=False, highlight=False, soft_wrap=True)


def _accuracy(metrics: dict[str, Any]) -> str:
    """On test texts, else the estimate of `prelabel train`, else that of `export --quantize`."""
    tried = metrics.get("cross_validation") or {}
    figures = metrics.get("test") or tried.get(metrics.get("chosen")) or {}
    accuracy = figures.get("accuracy")
    if accuracy is None:
        cost = metrics.get("quantization") or {}
        accuracy = cost.get(f"accuracy_{cost.get('precision')}")
    if not isinstance(accuracy, float):
        return "–"
    return f"{accuracy:.4f}" if "test" in metrics else f"about {accuracy:.2f}"


def _labels(labels: Sequence[str]) -> str:
    """The first ones, shortened."""
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return escape(", ".join(one_line(label, SHOWN_LABEL) for label in labels[:SHOWN_LABELS])) + more


def _entry(path: Path) -> Entry:
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    try:
        return Entry(path, read_bundle(path), "", size)
    except BadBundle as error:
        return Entry(path, None, str(error), size)
