"""Label Studio's JSON: the tasks and the labeling config of a request."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.errors import BadRequest, RequestTooLarge, json_type
from server.label_studio.labeling_config import MAX_CONFIG
from server.prediction.task_texts import Tasks
from server.threads import in_thread
from server.transport.json_codec import PARSE_IN_THREAD_BYTES, check_utf8, decode_json, decode_object
from server.transport.json_slices import SLICE, SlicedList, cut_list


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


_STAND_IN = secrets.token_hex()
"""The data of the one task instead of those that are decoded later; no client knows it."""

_predict_request = msgspec.json.Decoder(PredictRequest)
_tasks = msgspec.json.Decoder(list[Task])


@dataclass(frozen=True)
class SlicedTasks:
    """The `data` of each task of a large body, decoded when it is iterated; that takes long."""

    tasks: SlicedList

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Any]:
        """Raises BadRequest, RequestTooLarge."""
        for each in self.tasks.slices():
            yield from map(_data, _decode_slice(each))


def task_data(body: Mapping[str, Any], max_tasks: int) -> Tasks:
    """The `data` of each task of the body, None for a task without. Raises BadRequest, RequestTooLarge."""
    tasks = body.get("tasks")
    if not isinstance(tasks, list | SlicedTasks):
        raise BadRequest(f"tasks: expected a list of tasks, found {json_type(tasks)}.")
    _check_number(len(tasks), max_tasks)
    return tasks if isinstance(tasks, SlicedTasks) else list(map(_data, tasks))


def _check_number(tasks: int, max_tasks: int) -> None:
    if tasks > max_tasks:
        raise RequestTooLarge(
            f"tasks: {tasks} in one request; the maximum is {max_tasks} (PRELABEL_MAX_TASKS). "
            "Send fewer tasks per request."
        )


async def parse_tasks(body: bytearray, max_text: int, max_tasks: int) -> dict[str, Any]:
    """The body as an object. Its tasks are a list, of `Task` if the body is a well-formed PredictRequest, or
    SlicedTasks if the body is large. `max_text` is the maximum of characters in a text, `max_tasks` that of
    tasks.

    Raises BadRequest, RequestTooLarge.
    """
    if len(body) < PARSE_IN_THREAD_BYTES:
        return decode_tasks(body)
    return await in_thread(decode_large, body, max_text, max_tasks)


def decode_large(body: bytearray, max_text: int, max_tasks: int, least: int = SLICE) -> dict[str, Any]:
    """As `parse_tasks`, with SlicedTasks of at least `least` bytes in a slice; takes long."""
    stand_in = msgspec.json.encode([{"data": _STAND_IN}])
    rest, found = cut_list(body, ("tasks",), stand_in=stand_in, max_text=max_text, least=least)
    fields = decode_tasks(rest)
    if found is None:
        return fields
    _check_number(len(found), max_tasks)
    tasks, value = SlicedTasks(found), fields.get("tasks")
    if isinstance(value, list) and [*map(_data, value)] == [_STAND_IN]:
        fields["tasks"] = tasks
    else:  # a second field of that name counts
        for _ in tasks:
            pass
    return fields


def _data(task: Any) -> Any:
    if isinstance(task, Task):
        return task.data
    return task.get("data") if isinstance(task, dict) else None


def _decode_slice(tasks: bytes) -> list[Any]:
    try:
        check_utf8(tasks)
        return _tasks.decode(tasks)
    except (ValueError, RecursionError):
        found: list[Any] = decode_json(tasks)
        return found


def decode_tasks(body: bytearray) -> dict[str, Any]:
    """As `parse_tasks`, with all tasks in a list."""
    try:
        check_utf8(body)
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
