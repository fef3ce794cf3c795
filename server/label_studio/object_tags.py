"""Which text of a task is read: `<Text>`, `<HyperText>` and `<Paragraphs>`, and the fields that their `value`
names.

A value is `$field`, a path such as `$review.body` or `$items[0].text`, or words with several of them
("$title: $body"), as in Label Studio's own editor. Only the task's own data is read; nothing is ever fetched.
"""

import html
import re
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.label_interface.object_tags import ObjectTag

from server.errors import BadLabelConfig

WHOLE = re.compile(r"\$([^\s$]+)")
"""A value that is one field or path and nothing else: it may hold more than text."""
FIELD = re.compile(r"\$(\w+(?:\.\w+|\[\d+\])*)")
"""A field or path among other words."""
MAX_VALUE = 10_000
MAX_FIELDS = 20
"""Each may stand for a long text."""
BLOCKS = re.compile(
    r"address|article|aside|blockquote|br|d[dlt]|div|fig(ure|caption)|footer|form|h[1-6r]|header|li|main|nav|[ou]l|p|pre|section|t(able|[dhr])"
)
"""HTML elements that a browser puts on lines of their own."""
MARKUP = re.compile(
    r"""<!--(?:-?>|.*?(?:--!?>|\Z))
    |<(?P<unseen>script|style|title)(?=[\s/>])(?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))?+)*+(?:>|\Z).*?(?:</(?P=unseen)[^>]*+(?:>|\Z)|\Z)
    |</?(?P<tag>[a-z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))?+)*+(?:>|\Z)
    |<[!?/][^>]*+(?:>|\Z)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""What of an HTML page is no text: comments, elements whose text a reader does not see, tags, declarations.
As in HTML's standard, what is not closed goes on to the end; so each character is looked at once, and no page
takes long, as some do in html.parser.
"""
ENDLESS = re.compile(r"&#[0-9]{1000,}+;?")
"""References to characters that there cannot be."""


@dataclass(frozen=True)
class TextField:
    """One object tag: where it takes its text from. `text_key` is the part of a paragraph that holds its
    words.
    """

    name: str
    tag: str
    value: str
    text_key: str = "text"

    @property
    def fields(self) -> tuple[str, ...]:
        """Paths into a task's data, as they are written in the config."""
        whole = WHOLE.fullmatch(self.value)
        return (whole[1],) if whole else tuple(FIELD.findall(self.value))

    @property
    def columns(self) -> tuple[str, ...]:
        """Where those paths may begin: columns of a table."""
        return tuple(
            dict.fromkeys(name for field in self.fields for name in (field, re.split(r"[.\[]", field)[0]))
        )

    def text(self, data: object) -> str | None:
        """The task's text as one string, None when it has none that is usable."""
        whole = WHOLE.fullmatch(self.value)
        if whole is None:
            parts = [text_of(data, field) for field in self.fields]
            words = iter(part or "" for part in parts)
            return (
                FIELD.sub(lambda _: next(words), self.value)
                if any(part is not None for part in parts)
                else None
            )
        value = look_up(data, whole[1])
        if self.tag == "paragraphs" and isinstance(value, list):
            value = [part.get(self.text_key) if isinstance(part, dict) else part for part in value]
        text = as_text(value)
        return visible_text(text) if text is not None and self.tag == "hypertext" else text


def read_source(tag: ObjectTag) -> TextField:
    """Raises BadLabelConfig for a tag that holds no text, or whose text lies elsewhere."""
    kind = (tag.tag or "").lower()
    where = f'<{tag.tag} name="{tag.name}">'
    attributes = {name.lower(): value for name, value in (tag.attr or {}).items()}
    value = str(tag.value or "")
    if kind not in ("text", "hypertext", "paragraphs"):
        raise BadLabelConfig(
            f"{where} is no text; this model reads <Text>, <HyperText> and <Paragraphs>, so point "
            "toName to one of them."
        )
    if attributes.get("valuetype", "").lower() == "url":
        raise BadLabelConfig(
            f'{where} has valueType="url"; Prelabel fetches nothing, so import the texts themselves and remove valueType.'
        )
    if attributes.get("encoding", "none").lower() != "none":
        raise BadLabelConfig(f"{where} has an encoding; import the texts as they are and remove it.")
    if "{{" in value:
        raise BadLabelConfig(
            f"{where} stands in a <Repeater>; this model labels whole tasks, so put the tag outside of it."
        )
    if len(value) > MAX_VALUE or value.count("$") > MAX_FIELDS:
        raise BadLabelConfig(
            f"{where} has a value that is too long: the most are {MAX_VALUE:,} characters and "
            f"{MAX_FIELDS} fields."
        )
    source = TextField(str(tag.name), kind, value, attributes.get("textkey") or "text")
    if not source.fields:
        raise BadLabelConfig(
            f'{where} must take its text from the task, such as value="$text"; found value="{value}".'
        )
    return source


def text_of(data: object, path: str) -> str | None:
    """The text under a field or path of a task's data, None when there is none that is usable."""
    return as_text(look_up(data, path))


def look_up(data: object, path: str) -> Any:
    """The value under a path; None where it leads nowhere. A field that is named like the whole path comes
    first.
    """
    if isinstance(data, dict) and path in data:
        return data[path]
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and (place := _place(step)) is not None and place < len(data):
            data = data[place]
        else:
            return None
    return data


def _place(step: str) -> int | None:
    """A place in a list; None for what is none. No list is so long that its places need more digits."""
    return int(step) if step.isdecimal() and len(step) < 20 else None


def as_text(value: object) -> str | None:
    """Text as it is; numbers as Label Studio makes them of a CSV's cells; a list of these line by line."""
    if isinstance(value, list):
        parts = [_scalar(part) for part in value]
        return "\n".join(part for part in parts if part is not None) if None not in parts else None
    return _scalar(value)


def visible_text(page: str) -> str:
    """What a reader sees of an HTML page, a line for each block."""
    parts, seen = [], 0
    for found in MARKUP.finditer(page):
        parts.append(page[seen : found.start()])
        if found["tag"] and BLOCKS.fullmatch(found["tag"].lower()):
            parts.append("\n")
        seen = found.end()
    return html.unescape(ENDLESS.sub("\ufffd", "".join([*parts, page[seen:]])))


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
