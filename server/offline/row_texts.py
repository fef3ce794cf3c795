"""The text of a row: as a labeling config shows it, or from a column that is named instead."""

import json
from dataclasses import dataclass, replace
from typing import Any, Protocol

from server.errors import json_type
from server.label_studio.object_tags import TextField, as_text, look_up

REMEDY = "give the project's labeling config with --label-config"


class RowText(Protocol):
    """Reads the texts of rows. `columns` are those that a row needs one of."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def read(self, data: dict[str, Any], *, exported: bool) -> str | None:
        """The text of a row; None if there is no text in it. `exported`: the row is from Label Studio.

        Raises ValueError with a sentence for a value that only a labeling config can explain.
        """


@dataclass(frozen=True)
class ConfigText:
    """The text that a tag of the labeling config shows, as the server reads it."""

    field: TextField

    @property
    def columns(self) -> tuple[str, ...]:
        return self.field.columns

    def read(self, data: dict[str, Any], *, exported: bool) -> str | None:
        if exported and (self.field.tag == "paragraphs" or self.field.fields != self.columns):
            data = {name: _unpacked(value) for name, value in data.items()}
        return self.field.text(data)


@dataclass(frozen=True)
class ColumnText:
    """The text in a column, under a path such as `review.body`, or put together as by `$title: $body`.

    A list of paragraphs, objects with a "text", is read as Label Studio's <Paragraphs> shows it.
    """

    name: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name, *self._field.columns)

    @property
    def _field(self) -> TextField:
        return TextField("", "text", value_of(self.name))

    def read(self, data: dict[str, Any], *, exported: bool) -> str | None:
        if "$" in self.name and self.name not in data:
            text = self._field.text({name: _unpacked(value) for name, value in data.items()})
        else:
            value = look_up(data, self.name)
            paragraphs = _unpacked(value) if exported else value
            if isinstance(paragraphs, list) and paragraphs and all(map(_has_text, paragraphs)):
                value = [part["text"] for part in paragraphs]
            text = as_text(value)
            if text is None and value is not None:
                path = f"name the text in it by its path ({self.name}.…), or " * isinstance(value, dict)
                raise ValueError(
                    f'the column "{self.name}" holds {json_type(value)}, no text; {path}{REMEDY}.'
                )
        if exported and text is not None and _is_page(text):
            raise ValueError(
                f'the column "{self.name}" holds a page with markup, which <HyperText> shows without it and '
                f"<Text> with it; {REMEDY}."
            )
        return text


def value_of(name: str) -> str:
    """The value of a text tag that shows a column, a path, or what `$title: $body` puts together."""
    return name if "$" in name else f"${name}"


def text_instead(field: TextField, name: str) -> RowText:
    """The text under `name`, a column, path or value, where the tag of `field` reads another."""
    return ColumnText(name) if field.tag == "text" else ConfigText(replace(field, value=value_of(name)))


def _has_text(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _unpacked(value: object) -> object:
    """The object or list of objects that a cell of Label Studio's CSV holds as JSON; else the value."""
    if not isinstance(value, str) or not value.startswith(("{", "[{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _is_page(text: str) -> bool:
    """Whether a text begins and ends with a tag."""
    text = text.strip()
    begins = text[:1] == "<" and (text[1:2].isalpha() or text[1:2] == "!")
    return begins and text.endswith(">") and text[text.rfind("<") :].startswith("</")
