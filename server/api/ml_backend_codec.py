"""Label Studio's JSON: the tasks and the labeling config of a request."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.errors import BadRequest, RequestTooLarge
from server.transport.json_codec import decode_object, json_type, parse_body

MAX_CONFIG = 500_000
"""Characters of a labeling config. Hundreds are cached, with the plan read from each."""


class Task(msgspec.Struct, gc=False):
    """The one field of a task that is read. msgspec skips the two dozen others without building them."""

    data: Annotated[
        Any,
        Meta(description="The task's columns, an object. A task without a text gets an empty prediction."),
    ] = None


class PredictRequest(msgspec.Struct):
    """A request for predictions as Label Studio writes it. Other fields are ignored."""

    tasks: list[Task]
    label_config: Annotated[str, Meta(min_length=1, description="The project's labeling config.")]
    project: Annotated[Any, Meta(description="Label Studio's name for the project.")] = None


_predict_request = msgspec.json.Decoder(PredictRequest)


def task_data(body: Mapping[str, Any], max_tasks: int) -> list[Any]:
    """The `data` of each task of the body, None for a task without. Raises BadRequest, RequestTooLarge."""
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest(f"tasks: expected a list of tasks, found {json_type(tasks)}.")
    if len(tasks) > max_tasks:
        raise RequestTooLarge(
            f"tasks: {len(tasks)} in one request; the maximum is {max_tasks} (PRELABEL_MAX_TASKS). "
            "Send fewer tasks per request."
        )
    return [
        task.data if isinstance(task, Task) else task.get("data") if isinstance(task, dict) else None
        for task in tasks
    ]


async def parse_tasks(body: bytearray) -> dict[str, Any]:
    """The body as an object, its tasks as `Task` if the body is a well-formed PredictRequest.

    Raises BadRequest, RequestTooLarge.
    """
    return await parse_body(_decode_tasks, body)


def _decode_tasks(body: bytearray) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(_predict_request.decode(body))
    except (ValueError, RecursionError):
        return decode_object(body)  # raises a BadRequest that names what is wrong, or accepts it


def label_config_of(body: Mapping[str, Any], field: str) -> str:
    """The labeling config in `field`. Raises BadRequest, RequestTooLarge."""
    config = body.get(field)
    if isinstance(config, str) and len(config) > MAX_CONFIG:
        raise RequestTooLarge(
            f"{field}: a labeling config of {len(config)} characters; the maximum is {MAX_CONFIG}."
        )
    if not isinstance(config, str) or not config.strip():
        raise BadRequest(f"{field}: expected the labeling config as text, found {json_type(config)}.")
    return config
