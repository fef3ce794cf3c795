"""The labeling config: which field holds the text, which choice stands for which label.

Read with label-studio-sdk. Document types and entities are refused before its parser sees them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.base import LabelStudioTag
from label_studio_sdk.label_interface.control_tags import ControlTag

from server.errors import BadLabelConfig

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


@dataclass(frozen=True)
class Target:
    """Where predictions go: `<Choices name=from_name toName=to_name>` on the text in `field`; `choices` in class order."""

    from_name: str
    to_name: str
    field: str
    choices: tuple[str, ...]


def find_target(config: str, labels: Sequence[str], label_map: Mapping[str, str]) -> Target:
    """The first `<Choices>` on a `<Text>` whose choices cover the model's `labels`.

    `label_map` maps label → choice where neither text nor alias agree. Raises BadLabelConfig, in plain words.
    """
    interface = _parse(config)
    controls = [control for control in interface.controls if control.tag == "Choices"]
    if not controls:
        raise BadLabelConfig("The labeling config has no <Choices> tag; this model labels whole texts, so add one with the choices " + _listed(labels) + ".")
    refusals = []
    for control in controls:
        try:
            return _target(interface, control, labels, label_map)
        except BadLabelConfig as refusal:
            refusals.append(str(refusal))
    raise BadLabelConfig(" ".join(refusals))


def _parse(config: str) -> LabelInterface:
    if "<!DOCTYPE" in config.upper() or "<!ENTITY" in config.upper():
        raise BadLabelConfig("The labeling config holds a document type or an entity; remove it, Label Studio needs neither.")
    try:
        return LabelInterface(config)
    except Exception as error:  # the SDK raises many unrelated types
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise BadLabelConfig(f"The labeling config cannot be read ({first_line}); correct it in the project's settings.") from None


def _target(interface: LabelInterface, control: ControlTag, labels: Sequence[str], label_map: Mapping[str, str]) -> Target:
    where = f'<Choices name="{control.name}">'
    if not control.name or len(control.to_name or ()) != 1:
        raise BadLabelConfig(f"{where} must have a name and one tag in toName.")
    to_name = (control.to_name or [""])[0]
    source = next((tag for tag in interface.objects if tag.name == to_name), None)
    if source is None or source.tag != "Text":
        found = "nothing" if source is None else f"<{source.tag}>"
        raise BadLabelConfig(f'{where} belongs to {found} through toName="{to_name}"; this model reads <Text> tags, so point it to one.')
    if not (source.value or "").startswith("$") or len(source.value or "") < 2:
        raise BadLabelConfig(f'<Text name="{to_name}"> must take its text from the task, such as value="$text"; found value="{source.value}".')
    return Target(control.name, to_name, (source.value or "")[1:], _match(where, control.labels_attrs or {}, labels, label_map))


def _match(where: str, choices: Mapping[str, LabelStudioTag], labels: Sequence[str], label_map: Mapping[str, str]) -> tuple[str, ...]:
    """The choice for each label: the same text, then ignoring case, then its alias, then by `label_map`.

    `choices` is keyed by what Label Studio stores in a result: the alias where there is one, else the value.
    """
    shown = {stored: str((tag.attr or {}).get("value") or stored) for stored, tag in choices.items()}

    def chosen(label: str) -> str | None:
        mapped = label_map.get(label)
        rules = (
            lambda stored: shown[stored] == label,
            lambda stored: shown[stored].casefold() == label.casefold(),
            lambda stored: stored.casefold() == label.casefold(),
            lambda stored: mapped in (stored, shown[stored]),
        )
        return next((stored for rule in rules for stored in shown if rule(stored)), None)

    found = {label: chosen(label) for label in labels}
    missing = [label for label, stored in found.items() if stored is None]
    if missing:
        raise BadLabelConfig(
            f"{where} has no choice for the model's label{'s' if len(missing) > 1 else ''} {_listed(missing)}; its choices are "
            f"{_listed(list(shown.values())) or 'none'}. Rename a choice, give it that alias, or start Prelabel with --map {missing[0]}=CHOICE."
        )
    matched = tuple(stored for stored in found.values() if stored is not None)
    if len(set(matched)) != len(matched):
        raise BadLabelConfig(f"{where}: one choice stands for two of the model's labels {_listed(labels)}; check --map.")
    return matched


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
