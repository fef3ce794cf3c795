"""What was there before `prelabel connect`, kept in the description of the ML backend in Label Studio, behind
the user's own words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SENTENCE = "Connected by `prelabel connect`, which takes it back with --disconnect. Before: "

FIELDS = ("title", "auto_update")
"""Of an ML backend that was there before, what connect may change and can put back."""


@dataclass(frozen=True)
class RestorePoint:
    """`made`: connect added the ML backend. The others: what connect found in the project and in an ML
    backend that it did not add.
    """

    made: bool
    show_collab_predictions: bool
    model_version: str
    row: dict[str, Any] = field(default_factory=dict)


def write(before: RestorePoint, own_words: str | None = None) -> str:
    own = f"{own_words.rstrip()}\n" if own_words and own_words.strip() else ""
    return f"{own}{SENTENCE}{json.dumps(asdict(before), ensure_ascii=False, separators=(',', ':'))}"


def read(description: str | None) -> RestorePoint | None:
    """The note in a description; None where there is none that connect could have written."""
    _, found, data = (description or "").rpartition(SENTENCE)
    if not found:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(data)
        before = RestorePoint(**value)
    except (ValueError, TypeError):
        return None
    types = (
        (before.made, bool),
        (before.show_collab_predictions, bool),
        (before.model_version, str),
        (before.row, dict),
    )
    return before if all(isinstance(part, kind) for part, kind in types) else None


def own_words(description: str | None) -> str:
    """A description without the note."""
    words, found, _ = (description or "").rpartition(SENTENCE)
    return words.rstrip() if found else description or ""


def before_of(
    project: Mapping[str, Any], replaced: Sequence[Mapping[str, Any]], changed: dict[str, Any] | None
) -> RestorePoint:
    """The note for a project as it is; `changed`: earlier values of an ML backend that was there, None for a
    new one.

    An ML backend that is replaced and that connect had added hands on what was before it.
    """
    for row in replaced:
        earlier = read(row["description"])
        if earlier and earlier.made and row["title"] == project["model_version"]:
            return RestorePoint(
                changed is None, earlier.show_collab_predictions, earlier.model_version, changed or {}
            )
    return RestorePoint(
        changed is None,
        bool(project["show_collab_predictions"]),
        project["model_version"] or "",
        changed or {},
    )


def restored(project: Mapping[str, Any], title: str, before: RestorePoint) -> dict[str, Any]:
    """What to change in the project to have it as before, as far as it still is what connect made it."""
    version = project["model_version"] or ""
    changes: dict[str, Any] = {}
    if version == title != before.model_version:
        changes["model_version"] = before.model_version
    if project["show_collab_predictions"] and not before.show_collab_predictions:
        # Label Studio empties the model version with it, unless one comes along
        changes = {"show_collab_predictions": False, "model_version": changes.get("model_version", version)}
    return changes
