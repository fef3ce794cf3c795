"""The settings before `prelabel connect`, kept as JSON in the description of the ML backend in Label Studio,
after the user's own text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SENTENCE = "Connected by `prelabel connect`, which takes it back with --disconnect. Before: "
"""Marks the JSON. Restore points are found by these words, so they must not change."""

FIELDS = ("title", "auto_update", "extra_params")
"""Fields of an ML backend that connect may change and can restore."""


@dataclass(frozen=True)
class RestorePoint:
    """`made`: connect added the ML backend; else `row` holds the fields that it changed. The others are the
    project's.
    """

    made: bool
    show_collab_predictions: bool
    model_version: str
    row: dict[str, Any] = field(default_factory=dict)


def write(before: RestorePoint, own_text: str | None = None) -> str:
    """The description that holds the restore point after the user's own text."""
    own = f"{own_text.rstrip()}\n" if own_text and own_text.strip() else ""
    return f"{own}{SENTENCE}{json.dumps(asdict(before), ensure_ascii=False, separators=(',', ':'))}"


def read(description: str | None) -> RestorePoint | None:
    """The restore point in a description, None if there is no valid one."""
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


def own_text(description: str | None) -> str:
    """A description without the restore point."""
    text, found, _ = (description or "").rpartition(SENTENCE)
    return text.rstrip() if found else description or ""


def take(
    project: Mapping[str, Any], replaced: Sequence[Mapping[str, Any]], changed: dict[str, Any] | None
) -> RestorePoint:
    """The restore point of a project as it is now.

    `changed` holds the current values of an existing ML backend's fields that connect will change, None for a
    new ML backend. If one of the `replaced` ML backends was added by connect and is in use, its restore
    point's project settings are taken over.
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


def with_extra_params(before: RestorePoint, extra_params: Any) -> RestorePoint:
    """The restore point of an ML backend whose extra parameters connect changes only now."""
    return replace(before, row={"extra_params": extra_params} | before.row)


def project_changes(project: Mapping[str, Any], title: str, before: RestorePoint) -> dict[str, Any]:
    """Fields of the project to restore. Those that were changed after connect stay as they are."""
    version = project["model_version"] or ""
    changes: dict[str, Any] = {}
    if version == title != before.model_version:
        changes["model_version"] = before.model_version
    if project["show_collab_predictions"] and not before.show_collab_predictions:
        # Label Studio clears the model version together with it, unless one is sent too
        changes = {"show_collab_predictions": False, "model_version": changes.get("model_version", version)}
    return changes
