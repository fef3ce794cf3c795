"""The labeling config: which texts are read and which controls are filled.

Read with label-studio-sdk. Document types and entities are refused before its parser sees them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.object_tags import ObjectTag

from server.errors import BadLabelConfig, one_line
from server.label_studio.control_tags import KINDS, Control, listed, read_control
from server.label_studio.object_tags import TextField, read_source

TUTORIAL_CONFIG = """\
<View>
  <Text name="text" value="$review"/>
  <Choices name="sentiment" toName="text" choice="single" showInLine="true">
    <Choice value="Positive"/>
    <Choice value="Negative"/>
  </Choices>
</View>
"""
"""What the command line assumes when no labeling config is given."""


MAX_CONFIG = 500_000
"""Characters. Configs are kept, parsed, for the next request."""

MAX_WRITTEN = 20_000
"""Characters of a task's prediction, about: a config of a thousand controls, or with a name of a megabyte,
would be answered with all of it for each task.
"""

REGION = 120
"""Characters of a region besides its names and what was chosen."""


@dataclass(frozen=True)
class ControlBinding:
    """One control on one text: `source` is the place of its text among the plan's sources."""

    control: Control
    source: int

    def written(self) -> int:
        """Characters of its longest answer."""
        lengths = [len(str(value)) for value in self.control.values]
        return REGION + len(self.control.name) + (sum(lengths) if self.control.several else max(lengths))


@dataclass(frozen=True)
class LabelingPlan:
    """What a labeling config asks of the model: texts to read, each once, and controls to fill."""

    sources: tuple[TextField, ...]
    targets: tuple[ControlBinding, ...]

    def texts(self, data: object) -> tuple[str | None, ...]:
        """A task's text for each source, None where it has none that is usable."""
        return tuple(source.text(data) for source in self.sources)

    @property
    def summary(self) -> str:
        """Such as `sentiment ← text ($review)`."""
        return one_line(
            ", ".join(
                f"{target.control.name} ← {(source := self.sources[target.source]).name} ({source.value})"
                for target in self.targets
            )
        )


def read_plan(config: str, labels: Sequence[str], label_map: Mapping[str, str]) -> LabelingPlan:
    """Every control on a text that can hold the model's `labels`; others are somebody else's.

    `label_map` maps label → choice where neither text nor alias agree. Raises BadLabelConfig when there is
    none, in plain words.
    """
    interface = _parse(config)
    controls = [control for control in interface.controls if (control.tag or "").lower() in KINDS]
    if not controls:
        raise BadLabelConfig(
            "The labeling config has no <Choices> tag, nor <Taxonomy>, <Rating> or <Number>; this "
            "model labels whole texts, so add a <Choices> with "
            f"the choices {listed(labels)}."
        )
    elements = {element.get("name"): element for element in interface._tree.iter() if element.get("toName")}  # noqa: SLF001 - the SDK keeps no nested choices
    objects = {tag.name: tag for tag in interface.objects}
    sources: list[TextField] = []
    targets, refusals = [], []
    for tag in controls:
        try:
            source, control = _source(objects, tag), read_control(tag, elements[tag.name], labels, label_map)
        except BadLabelConfig as refusal:
            refusals.append(str(refusal))
            continue
        if source not in sources:
            sources.append(source)
        targets.append(ControlBinding(control, sources.index(source)))
    if not targets:
        raise BadLabelConfig(" ".join(refusals))
    written = sum(target.written() + len(sources[target.source].name) for target in targets)
    if written > MAX_WRITTEN:
        raise BadLabelConfig(
            f"The labeling config asks for about {written:,} characters of answer for each task, the "
            f"most is {MAX_WRITTEN:,}; it needs fewer controls, "
            "or shorter names and choices."
        )
    return LabelingPlan(tuple(sources), tuple(targets))


def _parse(config: str) -> LabelInterface:
    if len(config) > MAX_CONFIG:
        raise BadLabelConfig(
            f"The labeling config has {len(config):,} characters, the most is {MAX_CONFIG:,}; shorten "
            "its lists of choices."
        )
    if "<!DOCTYPE" in config.upper() or "<!ENTITY" in config.upper():
        raise BadLabelConfig(
            "The labeling config holds a document type or an entity; remove it, Label Studio needs neither."
        )
    try:
        return LabelInterface(config)
    except Exception as error:  # the SDK raises many unrelated types
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise BadLabelConfig(
            f"The labeling config cannot be read ({first_line}); correct it in the project's settings."
        ) from None


def _source(objects: Mapping[str | None, ObjectTag], control: ControlTag) -> TextField:
    names = control.to_name or []
    where = f'<{control.tag} name="{control.name}">'
    if len(names) != 1:
        raise BadLabelConfig(f"{where} must have one tag in toName.")
    tag = objects.get(names[0])
    if tag is None:
        raise BadLabelConfig(f'{where} belongs to nothing through toName="{names[0]}"; point it to a <Text>.')
    return read_source(tag)
