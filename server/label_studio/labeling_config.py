"""Reads a labeling config: which texts the model reads and which controls it fills.

label-studio-sdk parses the XML. Document types and entities are refused before its parser sees them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.object_tags import ObjectTag

from server.errors import BadLabelConfig, one_line
from server.label_studio.control_tags import (
    KINDS,
    Answers,
    Control,
    Element,
    listed,
    read_answers,
    read_control,
)
from server.label_studio.object_tags import TextField, read_text_field

TUTORIAL_CONFIG = """\
<View>
  <Text name="text" value="$review"/>
  <Choices name="sentiment" toName="text" choice="single" showInLine="true">
    <Choice value="Positive"/>
    <Choice value="Negative"/>
  </Choices>
</View>
"""
"""The command line uses it when no labeling config is given."""


MAX_PROBLEMS = 3
"""Controls of a config whose problems an error lists."""

MAX_CONFIG = 500_000
"""Characters of a config. The server caches parsed configs by their text."""

MAX_ATTRIBUTES = 1_000
"""Attributes of one tag. The SDK reads them in quadratic time: 30,000 of them took 3.6 s, with the
interpreter's lock held.
"""

XML_SOURCE = re.compile(r" \(<string>, line \d+\)$")
"""The end of the parser's messages: the name that a config has there."""

ATTRIBUTE = re.compile(r"""=\s*["']""")

MAX_WRITTEN = 20_000
"""Characters of one task's prediction, approximately. Otherwise a config with a thousand controls, or with a
name of a megabyte, would be repeated in the answer for each task.
"""

MAX_STEPS = 300
"""Steps of the paths that a plan looks up in each task: two in `$review.body`."""

REGION = 120
"""Characters of a region apart from its names and its value."""

Texts = tuple[str | None, ...]
"""A task's text for each field of a plan; None where the task has no usable text there."""

Values = tuple[tuple[Any, ...], ...]
"""A task's values for each field of a plan, as `TextField.look_up` finds them."""


@dataclass(frozen=True)
class ControlBinding:
    """One control and the text it classifies: `field` is an index into the plan's fields."""

    control: Control
    field: int

    def written(self) -> int:
        """Characters of its longest answer, approximately."""
        lengths = [len(str(self.control.stored(index))) for index in range(len(self.control.values))]
        return REGION + len(self.control.name) + (sum(lengths) if self.control.several else max(lengths))


@dataclass(frozen=True)
class LabelingPlan:
    """What a labeling config asks of the model: the texts to read, each once, and the controls to fill."""

    fields: tuple[TextField, ...]
    bindings: tuple[ControlBinding, ...]

    @cached_property
    def controls_of_fields(self) -> tuple[int, ...]:
        """How many controls classify each field."""
        counts = Counter(binding.field for binding in self.bindings)
        return tuple(counts[field] for field in range(len(self.fields)))

    @cached_property
    def steps(self) -> int:
        """Steps of the paths that it looks up in each task."""
        return sum(field.steps for field in self.fields)

    def texts(self, data: object) -> Texts:
        """The texts of a task."""
        return tuple(field.text(data) for field in self.fields)

    def look_up(self, data: object) -> Values:
        """The values of a task that its texts are made of. Cheap, whatever their size."""
        return tuple(field.look_up(data) for field in self.fields)

    def join(self, values: Values) -> Texts:
        """Each field's values as one string, markup included."""
        return tuple(field.join(each) for field, each in zip(self.fields, values, strict=True))

    def show(self, joined: Texts) -> Texts:
        """What a reader sees of the joined values."""
        return tuple(
            None if text is None else field.show(text)
            for field, text in zip(self.fields, joined, strict=True)
        )

    @cached_property
    def summary(self) -> str:
        """Such as `sentiment ← text ($review)`."""
        pairs = ((binding.control, self.fields[binding.field]) for binding in self.bindings)
        return one_line(
            ", ".join(f"{control.name} ← {field.name} ({field.value})" for control, field in pairs)
        )

    @property
    def without_text(self) -> str:
        """Why tasks without any value for its fields have no text, and the remedy."""
        values = ", ".join(dict.fromkeys(field.value for field in self.fields))
        return one_line(
            f"no task of the last request has a value for {values}, which the labeling config reads; name a "
            "field that the tasks have in the value of the text tag"
        )


def read_plan(config: str, labels: Sequence[str], label_map: Mapping[str, str]) -> LabelingPlan:
    """Binds every control on a text that can hold the model's `labels`; ignores the others.

    `label_map` maps label → choice where neither text nor alias matches. Raises BadLabelConfig if no control
    fits.
    """
    fields: dict[TextField, int] = {}
    bindings = [
        ControlBinding(control, fields.setdefault(field, len(fields)))
        for control, field in _read_controls(
            config,
            lambda tag, element: read_control(tag, element, labels, label_map),
            f"Add a <Choices> with the choices {listed(labels)}.",
        )
    ]
    plan = LabelingPlan(tuple(fields), tuple(bindings))
    _check_size(plan)
    return plan


@dataclass(frozen=True)
class Question:
    """What people are to answer about each task: the text they see, and the control they fill."""

    field: TextField
    answers: Answers


def read_question(
    config: str, control: str | None = None, several: str = "Name one with --label."
) -> Question:
    """The control of this name and its text; without a control of this name, the config's only control that
    labels texts. Raises BadLabelConfig; `several` is the remedy if there are several.
    """
    found = _read_controls(config, read_answers, "Give the config of a project that labels texts.")
    questions = [Question(field, answers) for answers, field in found]
    named = [each for each in questions if each.answers.name == control] or questions
    if len(named) > 1:
        names = listed([each.answers.name for each in named])
        raise BadLabelConfig(f"The labeling config has several controls: {names}. {several}")
    return named[0]


Read = TypeVar("Read")


def _read_controls(
    config: str, read: Callable[[ControlTag, Element], Read], remedy: str
) -> list[tuple[Read, TextField]]:
    """What `read` gives for each control of a text, with the text; a control that it refuses is left out.

    Raises BadLabelConfig if none is left.
    """
    interface = _parse(config)
    controls = [control for control in interface.controls if (control.tag or "").lower() in KINDS]
    if not controls:
        raise BadLabelConfig(
            "The labeling config has no <Choices> tag, nor <Taxonomy>, <Rating> or <Number>; this model "
            f"labels whole texts. {remedy}"
        )
    elements = {element.get("name"): element for element in interface._tree.iter() if element.get("toName")}  # noqa: SLF001 - the SDK keeps no nested choices
    objects = {tag.name: tag for tag in interface.objects}
    found, problems = [], []
    for tag in controls:
        try:
            field = _text_field(objects, tag)
            found.append((read(tag, elements[tag.name]), field))
        except BadLabelConfig as problem:
            problems.append(str(problem))
    if not found:
        more = len(problems) - MAX_PROBLEMS
        shown = problems[:MAX_PROBLEMS] + ([f"And {more} more."] if more > 0 else [])
        raise BadLabelConfig(" ".join(shown))
    return found


def _parse(config: str) -> LabelInterface:
    if len(config) > MAX_CONFIG:
        raise BadLabelConfig(
            f"The labeling config has {len(config):,} characters; the limit is {MAX_CONFIG:,}. Shorten its "
            "lists of choices."
        )
    upper = config.upper()
    if "<!DOCTYPE" in upper or "<!ENTITY" in upper:
        raise BadLabelConfig(
            "The labeling config holds a document type or an entity. Remove it; Label Studio needs neither."
        )
    if any(len(ATTRIBUTE.findall(tag)) > MAX_ATTRIBUTES for tag in config.split("<")):
        raise BadLabelConfig(
            f"The labeling config has a tag with more than {MAX_ATTRIBUTES:,} attributes. Remove those that "
            "Label Studio does not know."
        )
    try:
        return LabelInterface(config)
    except Exception as error:  # the SDK raises many unrelated types
        first_line = XML_SOURCE.sub("", (str(error) or type(error).__name__).splitlines()[0])
        raise BadLabelConfig(
            f"The labeling config cannot be read ({first_line}). Correct it in the project's settings."
        ) from None


def _text_field(objects: Mapping[str | None, ObjectTag], control: ControlTag) -> TextField:
    """The field that a control classifies."""
    names = control.to_name or []
    where = f'<{control.tag} name="{control.name}">'
    if len(names) != 1:
        raise BadLabelConfig(f"{where} must have one tag in toName.")
    tag = objects.get(names[0])
    if tag is None:
        raise BadLabelConfig(
            f'{where} has toName="{names[0]}", which is no tag of the config. Point it to a <Text>.'
        )
    return read_text_field(tag)


def _check_size(plan: LabelingPlan) -> None:
    """Raises BadLabelConfig for a plan whose answers, or the paths it looks up, would be too long."""
    if plan.steps > MAX_STEPS:
        raise BadLabelConfig(
            f"The labeling config looks up paths of {plan.steps:,} steps in each task; the limit is "
            f"{MAX_STEPS:,}. Use fewer fields, or import the texts less deeply nested."
        )
    written = sum(binding.written() + len(plan.fields[binding.field].name) for binding in plan.bindings)
    if written > MAX_WRITTEN:
        raise BadLabelConfig(
            f"The labeling config asks for about {written:,} characters of answer for each task; the limit "
            f"is {MAX_WRITTEN:,}. Use fewer controls, or shorter names and choices."
        )
