"""Reads the texts of a task: `<Text>`, `<HyperText>`, `<Paragraphs>`, and the fields that their `value`
names.

A value is `$field`, a path such as `$review.body` or `$items[0].text`, or several of them among other words
("$title: $body"), as in Label Studio's editor. Only the task's own data is read; nothing is ever fetched.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from label_studio_sdk.label_interface.object_tags import ObjectTag

from server.errors import BadLabelConfig
from server.label_studio.html_text import visible_text

WHOLE = re.compile(r"\$([^\s$]+)")
"""A value that is a single field or path. It may hold more than text."""
FIELD = re.compile(r"\$(\w+(?:\.\w+|\[\d+\])*)")
"""A field or path among other words."""
MAX_VALUE = 10_000
"""Characters of a tag's `value`."""
MAX_FIELDS = 20
"""Fields in a tag's `value`; each may hold a long text."""
TAGS = ("text", "hypertext", "paragraphs")
STEP = re.compile(r"[^.\[\]]+")
"""A step of a path."""


@dataclass(frozen=True)
class TextField:
    """One object tag and the fields that it takes its text from.

    `text_key` names the part of a paragraph that holds its words. A value passes three steps, so that a
    caller can look at its size before each: `look_up`, `join`, `show`. `text` does all of them.
    """

    name: str
    tag: str
    value: str
    text_key: str = "text"

    @cached_property
    def is_whole(self) -> bool:
        """Whether the value is a single field or path."""
        return WHOLE.fullmatch(self.value) is not None

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Paths into a task's data, as the config writes them."""
        return (self.value[1:],) if self.is_whole else tuple(FIELD.findall(self.value))

    @cached_property
    def steps(self) -> int:
        """Steps of all its paths: what looking them up in a task costs."""
        return sum(len(STEP.findall(field)) for field in self.fields)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a table that those paths may begin with."""
        return tuple(
            dict.fromkeys(name for field in self.fields for name in (field, re.split(r"[.\[]", field)[0]))
        )

    def text(self, data: object) -> str | None:
        """The task's text as one string; None when it has no usable text."""
        joined = self.join(self.look_up(data))
        return None if joined is None else self.show(joined)

    def look_up(self, data: object) -> tuple[Any, ...]:
        """The task's value for each of `fields`."""
        return tuple(look_up(data, field) for field in self.fields)

    def join(self, values: tuple[Any, ...]) -> str | None:
        """The values as one string, markup included; None when there is no usable text in them."""
        if self.is_whole:
            (value,) = values
            if self.tag == "paragraphs" and isinstance(value, list):
                value = [part.get(self.text_key) if isinstance(part, dict) else part for part in value]
            return as_text(value)
        parts = [as_text(value) for value in values]
        if all(part is None for part in parts):
            return None
        words = iter(parts)
        return FIELD.sub(lambda _: next(words) or "", self.value)

    def show(self, joined: str) -> str:
        """What a reader sees of the joined values."""
        return visible_text(joined) if self.tag == "hypertext" and self.is_whole else joined


def read_text_field(tag: ObjectTag) -> TextField:
    """The field of an object tag. Raises BadLabelConfig for a tag that holds no text, or whose text must be
    fetched.
    """
    kind = (tag.tag or "").lower()
    where = f'<{tag.tag} name="{tag.name}">'
    attributes = {name.lower(): value for name, value in (tag.attr or {}).items()}
    value = str(tag.value or "")
    if kind not in TAGS:
        raise BadLabelConfig(
            f"{where} is not a text; this model reads <Text>, <HyperText> and <Paragraphs>. Point toName to "
            "one of them."
        )
    if attributes.get("valuetype", "").lower() == "url":
        raise BadLabelConfig(
            f'{where} has valueType="url"; Prelabel fetches nothing. Import the texts themselves and remove '
            "valueType."
        )
    if attributes.get("encoding", "none").lower() != "none":
        raise BadLabelConfig(f"{where} has an encoding. Import the texts without one and remove it.")
    if "{{" in value:
        raise BadLabelConfig(
            f"{where} is inside a <Repeater>; this model labels whole tasks. Put the tag outside of it."
        )
    if len(value) > MAX_VALUE or value.count("$") > MAX_FIELDS:
        raise BadLabelConfig(
            f"{where} has a value that is too long; the limits are {MAX_VALUE:,} characters and "
            f"{MAX_FIELDS} fields."
        )
    field = TextField(str(tag.name), kind, value, attributes.get("textkey") or "text")
    if not field.fields:
        raise BadLabelConfig(
            f'{where} must take its text from the task, such as value="$text"; found value="{value}".'
        )
    return field


def text_of(data: object, path: str) -> str | None:
    """The text under a field or path of a task's data; None when there is no usable text."""
    return as_text(look_up(data, path))


def look_up(data: object, path: str) -> Any:
    """The value under a path; None where the path leads nowhere. A field named like the whole path wins."""
    if isinstance(data, dict) and path in data:
        return data[path]
    for found in STEP.finditer(path):  # one at a time: a long path often ends early
        step = found[0]
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and (index := _index(step)) is not None and index < len(data):
            data = data[index]
        else:
            return None
    return data


def as_text(value: object) -> str | None:
    """A text or number as a string, a list of them as one line each, None for anything else. Label Studio
    turns the cells of a CSV into numbers where it can.
    """
    if isinstance(value, list):
        parts = [_scalar(part) for part in value]
        return "\n".join(part for part in parts if part is not None) if None not in parts else None
    return _scalar(value)


def _index(step: str) -> int | None:
    """The index that a step of a path is; None if it is no index. Twenty digits exceed any list."""
    return int(step) if step.isdecimal() and len(step) < 20 else None


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
