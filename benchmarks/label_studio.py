"""Label Studio's requests to an ML backend, byte by byte: headers, and bodies of POST /setup and /predict."""

import json
from collections.abc import Sequence
from typing import Any

from server.label_studio.labeling_config import TUTORIAL_CONFIG

PROJECT = "1.1795474444"
"""A project's ID and the second of its creation."""

HEADERS = {
    "User-Agent": "heartex/1.23.2",
    "Accept-Encoding": "gzip, deflate",
    "Accept": "*/*",
    "Content-Type": "application/json",
}

TASK_FIELDS: dict[str, Any] = {
    "meta": {},
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-02T03:04:05.678901Z",
    "is_labeled": False,
    "overlap": 1,
    "total_annotations": 0,
    "cancelled_annotations": 0,
    "total_predictions": 0,
    "comment_count": 0,
    "unresolved_comment_count": 0,
    "last_comment_updated_at": None,
    "project": 1,
    "updated_by": None,
    "file_upload": None,
    "comment_authors": [],
    "annotations": [],
    "predictions": [],
}
"""The other fields of each task."""


def setup_body(config: str = TUTORIAL_CONFIG) -> bytes:
    body = {
        "project": PROJECT,
        "schema": config,
        "hostname": "http://localhost:8080",
        "access_token": "none",
        "extra_params": None,
    }
    return json.dumps(body).encode()


def body_of(texts: Sequence[str], config: str = TUTORIAL_CONFIG) -> bytes:
    """The body of POST /predict with one task for each text: ASCII on one line, as `requests` writes it."""
    tasks = [
        {"id": i, "inner_id": i, "data": {"review": text, "uid": i}, **TASK_FIELDS}
        for i, text in enumerate(texts)
    ]
    return json.dumps(
        {
            "tasks": tasks,
            "project": PROJECT,
            "label_config": config,
            "params": {"login": None, "password": None, "context": None},
        }
    ).encode()
