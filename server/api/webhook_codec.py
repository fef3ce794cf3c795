"""Label Studio's JSON: the annotations, tasks and project of a webhook."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from server.learning.events import AnnotationFields, Event, ProjectFields, TaskFields
from server.threads import in_thread
from server.transport.json_codec import PARSE_IN_THREAD_BYTES, check_utf8, decode_json, decode_object
from server.transport.json_slices import SLICE, SlicedList, cut_lists

Fields = TypeVar("Fields", AnnotationFields, TaskFields)


class WebhookBody(msgspec.Struct):
    """A webhook as Label Studio writes it. `annotation` and `task` are lists in ANNOTATIONS_CREATED."""

    action: Any = None
    project: ProjectFields | None = None
    annotation: AnnotationFields | list[AnnotationFields] | None = None
    annotations: list[AnnotationFields] | None = None
    task: TaskFields | list[TaskFields] | None = None
    tasks: list[TaskFields] | None = None


LISTS = ("annotation", "annotations", "task", "tasks")
"""The fields of a body that may be long lists."""

_STAND_IN = secrets.token_hex()
"""The number of the one element instead of those that are decoded later; no client knows it."""

_body = msgspec.json.Decoder(WebhookBody)
_annotations = msgspec.json.Decoder(list[AnnotationFields])
_tasks = msgspec.json.Decoder(list[TaskFields])


async def parse_event(body: bytearray, max_text: int) -> Event:
    """The webhook in the body; of a large body, annotations and tasks are decoded when they are iterated, in
    a thread. `max_text` is the maximum of characters in a text.

    Raises BadRequest, RequestTooLarge; so does iterating.
    """
    if len(body) < PARSE_IN_THREAD_BYTES:
        return decode_event(body)
    return await in_thread(decode_large_event, body, max_text)


def decode_event(body: bytearray) -> Event:
    """Raises BadRequest."""
    return _event(_decode(body), dict.fromkeys(LISTS))


def decode_large_event(body: bytearray, max_text: int, least: int = SLICE) -> Event:
    """As `parse_event`, with at least `least` bytes in a slice; takes long."""
    stand_in = msgspec.json.encode([{"id": _STAND_IN}])
    rest, found = cut_lists(
        body, [(name,) for name in LISTS], stand_in=stand_in, max_text=max_text, least=least
    )
    return _event(_decode(rest), dict(zip(LISTS, found, strict=True)))


def _decode(body: bytearray) -> dict[str, Any]:
    try:
        check_utf8(body)
        return msgspec.structs.asdict(_body.decode(body))
    except (ValueError, RecursionError):
        return decode_object(body)  # raises a BadRequest that names what is wrong, or accepts it


def _event(fields: dict[str, Any], lists: dict[str, SlicedList | None]) -> Event:
    """`lists` has what was cut out of the body; of two fields with one name, the last counts."""
    annotations = [
        _elements(fields.get(name), lists[name], AnnotationFields, _annotations)
        for name in ("annotation", "annotations")
    ]
    tasks = [_elements(fields.get(name), lists[name], TaskFields, _tasks) for name in ("task", "tasks")]
    project = fields.get("project")
    if not isinstance(project, ProjectFields):
        project = _fields(project if isinstance(project, dict) else {"id": project}, ProjectFields)
    return Event(fields.get("action"), project, _Chained(annotations), _Chained(tasks))


def _elements(
    value: object, sliced: SlicedList | None, kind: type[Fields], decoder: msgspec.json.Decoder[list[Fields]]
) -> Iterable[Fields]:
    found = _read(value if isinstance(value, list) else [value], kind)
    if sliced is None:
        return found
    if [each.id for each in found] == [_STAND_IN]:
        return SlicedElements(sliced, kind, decoder)
    for _ in SlicedElements(sliced, kind, decoder):  # another field of that name counts, but it must be JSON
        pass
    return found


@dataclass(frozen=True)
class _Chained(Generic[Fields]):
    """Elements of several lists; it can be iterated again."""

    lists: list[Iterable[Fields]]

    def __iter__(self) -> Iterator[Fields]:
        for each in self.lists:
            yield from each


@dataclass(frozen=True)
class SlicedElements(Generic[Fields]):
    """The elements of a long list, decoded slice by slice while it is iterated."""

    sliced: SlicedList
    kind: type[Fields]
    decoder: msgspec.json.Decoder[list[Fields]]

    def __iter__(self) -> Iterator[Fields]:
        """Raises BadRequest, RequestTooLarge."""
        for part in self.sliced.slices():
            yield from self._decode(part)

    def _decode(self, part: bytes) -> list[Fields]:
        try:
            check_utf8(part)
            return self.decoder.decode(part)
        except (ValueError, RecursionError):
            return _read(decode_json(part), self.kind)


def _read(values: list[Any], kind: type[Fields]) -> list[Fields]:
    """Without those that are no objects."""
    found = [_fields(each, kind) if isinstance(each, dict) else each for each in values]
    return [each for each in found if isinstance(each, kind)]


def _fields(value: dict[str, Any], kind: type[Any]) -> Any:
    return kind(**{name: value.get(name) for name in kind.__struct_fields__})
