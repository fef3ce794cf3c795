"""Webhooks as Label Studio 1.23.2 sends them."""

from typing import Any

from server.label_studio.labeling_config import TUTORIAL_CONFIG

EARLY, LATE = "2026-01-01T10:00:00.123456Z", "2026-01-01T11:00:00.000000Z"


def annotation(number: int, *choices: str, updated: str = EARLY, **fields: Any) -> dict[str, Any]:
    region = {
        "id": "Dx_aB91ISN",
        "from_name": "sentiment",
        "to_name": "text",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": list(choices)},
    }
    return {
        "id": number,
        "result": [region] if choices else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": EARLY,
        "updated_at": updated,
        "draft_created_at": None,
        "lead_time": 3.26,
        "import_id": None,
        "last_action": None,
        "bulk_created": False,
        "task": 10 * number,
        "project": 7,
        "completed_by": 1,
        "updated_by": 1,
        "parent_prediction": None,
        "parent_annotation": None,
        "last_created_by": None,
    } | fields


def task(number: int, text: object = "a fine film") -> dict[str, Any]:
    return {
        "id": number,
        "data": {"review": text, "stars": 7},
        "meta": {},
        "is_labeled": True,
        "overlap": 1,
        "inner_id": number,
        "project": 7,
        "updated_by": 1,
        "comment_authors": [],
    }


def project(number: int = 7, config: str = TUTORIAL_CONFIG) -> dict[str, Any]:
    return {
        "id": number,
        "title": "Films",
        "label_config": config,
        "token": "a token of the project",
        "parsed_label_config": {"sentiment": {"type": "Choices", "inputs": [{"value": "review"}]}},
        "created_at": EARLY,
    }


def created(number: int, *choices: str, text: object = "a fine film", **fields: Any) -> dict[str, Any]:
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation(number, *choices, **fields),
        "project": project(),
        "task": task(10 * number, text),
    }


def created_together(*numbers: int, text: object = "a fine film") -> dict[str, Any]:
    return {
        "action": "ANNOTATIONS_CREATED",
        "annotation": [annotation(number, "Positive") for number in numbers],
        "project": project(),
        "task": [task(10 * number, f"{text} {number}") for number in numbers],
    }


def deleted(*numbers: int) -> dict[str, Any]:
    return {
        "action": "ANNOTATIONS_DELETED",
        "annotations": [{"id": number} for number in numbers],
        "project": project(),
    }


def tasks_deleted(*numbers: int) -> dict[str, Any]:
    return {"action": "TASKS_DELETED", "tasks": [{"id": number} for number in numbers], "project": project()}


def start_training(number: int = 7) -> dict[str, Any]:
    return {"action": "START_TRAINING", "project": project(number)}
