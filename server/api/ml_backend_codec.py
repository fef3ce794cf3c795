"""Label Studio's requests for predictions: JSON to tasks and a labeling config."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.errors import BadRequest, RequestTooLarge
from server.transport.json_codec import decode_object, kind_of, parsed

LONGEST_CONFIG = 500_000
"""Characters of a labeling config: hundreds are kept, read, so that they need not be read again."""


class Task(msgspec.Struct, gc=False):
    """What is read of a task. Two dozen other fields come with it; they are passed over and never built."""

    data: Annotated[
        Any,
        Meta(description="The task's columns, an object; what has no text in them gets an empty prediction."),
    ] = None


class PredictRequest(msgspec.Struct):
    """A request for predictions as Label Studio writes it. Other fields are passed over."""

    tasks: list[Task]
    label_config: Annotated[str, Meta(min_length=1, description="The project's labeling config.")]
    project: Annotated[Any, Meta(description="Label Studio's name for the project.")] = None


_usual = msgspec.json.Decoder(PredictRequest)


def tasks_of(body: Mapping[str, Any], most: int) -> list[Any]:
    """The `data` of each of the body's tasks, None for one without. Raises BadRequest, RequestTooLarge."""
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest(f"tasks: expected a list of tasks, found {kind_of(tasks)}.")
    if len(tasks) > most:
        raise RequestTooLarge(
            f"tasks: {len(tasks)} in one request; the limit is {most} (PRELABEL_MAX_TASKS). Send fewer "
            "at once."
        )
    return [
        task.data if isinstance(task, Task) else task.get("data") if isinstance(task, dict) else None
        for task in tasks
    ]


async def parse_tasks(body: bytearray) -> dict[str, Any]:
    """As `parse_object`, with `Task`s for the tasks where they are all as usual. Raises BadRequest."""
    return await parsed(_tasks, body)


def _tasks(body: bytearray) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(_usual.decode(body))
    except (ValueError, RecursionError):
        return decode_object(body)  # which says what is wrong, if it is


def label_config_of(body: Mapping[str, Any], field: str) -> str:
    """The labeling config in `field`. Raises BadRequest, RequestTooLarge."""
    config = body.get(field)
    if isinstance(config, str) and len(config) > LONGEST_CONFIG:
        raise RequestTooLarge(
            f"{field}: a labeling config of {len(config)} characters; the limit is {LONGEST_CONFIG}."
        )
    if not isinstance(config, str) or not config.strip():
        raise BadRequest(f"{field}: expected the labeling config as text, found {kind_of(config)}.")
    return config
