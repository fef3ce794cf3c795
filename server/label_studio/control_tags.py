"""Which control a prediction fills, and with what: `<Choices>`, `<Taxonomy>`, `<Rating>` and `<Number>`.

Each of the model's labels is matched to something that the control can hold: a choice, a path of a taxonomy,
a number of stars, a number. What is stored is what Label Studio's editor stores: the alias where there is
one, else the value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from label_studio_sdk.label_interface.control_tags import ControlTag

from server.arrays import Floats
from server.errors import BadLabelConfig

Element: TypeAlias = Any
"""An element of the config's XML, as lxml parses it for the SDK."""

Kind = Literal["choices", "taxonomy", "rating", "number"]
KINDS: tuple[Kind, ...] = ("choices", "taxonomy", "rating", "number")

MOST_STARS = 100
"""Of a <Rating>; Label Studio's default is 5."""


@dataclass(frozen=True)
class Control:
    """A control that the model can fill: `values` in class order; `several` of them may be given at once."""

    name: str
    kind: Kind
    values: tuple[Any, ...]
    several: bool = False

    def fill(self, probabilities: Floats, threshold: float) -> list[dict[str, Any] | None]:
        """A region's value for each row of probabilities float32[rows, classes]; None when a choice of
        several has no label at `threshold` or above.

        Rows with the same labels share one value.
        """
        if not self.several:
            single = [self._value([place]) for place in range(len(self.values))]
            return [single[best] for best in probabilities.argmax(axis=1).tolist()]
        return [self._value(np.flatnonzero(row >= threshold).tolist()) for row in probabilities]

    def _value(self, chosen: list[int]) -> dict[str, Any] | None:
        if self.kind in ("rating", "number"):
            return {self.kind: self.values[chosen[0]]}
        return (
            {
                self.kind: [
                    list(value) if isinstance(value := self.values[place], tuple) else value
                    for place in chosen
                ]
            }
            if chosen
            else None
        )


@dataclass(frozen=True)
class Option:
    """Something that a control can hold: what is stored, what is shown, and by which other words it goes."""

    stored: Any
    shown: str
    others: tuple[str, ...] = ()


def read_control(
    tag: ControlTag, element: Element, labels: Sequence[str], label_map: Mapping[str, str]
) -> Control:
    """`element` is the tag in the config's XML. Raises BadLabelConfig for a control that this model cannot
    fill.
    """
    name = tag.name or ""
    where = f'<{tag.tag} name="{name}">'
    attributes = {name.lower(): value for name, value in (tag.attr or {}).items()}
    if "{{" in name:
        raise BadLabelConfig(
            f"{where} stands in a <Repeater>; this model labels whole tasks, so put the tag outside of it."
        )
    for scope in ("perRegion", "perItem"):
        if attributes.get(scope.lower()) == "true":
            raise BadLabelConfig(f'{where} has {scope}="true"; this model labels whole texts, so remove it.')
    if tag.dynamic_value:
        raise BadLabelConfig(
            f"{where} takes its choices from elsewhere; write them into the config, for they must be "
            f"the model's labels {listed(labels)}."
        )
    match (tag.tag or "").lower():
        case "choices":
            values = match_labels(where, _choices(element), labels, label_map)
            return Control(name, "choices", values, several=attributes.get("choice") == "multiple")
        case "taxonomy":
            return Control(name, "taxonomy", match_labels(where, _paths(element), labels, label_map))
        case "rating":
            return Control(name, "rating", match_labels(where, _stars(attributes), labels, label_map))
        case "number":
            return Control(
                name, "number", tuple(_number(where, attributes, label, label_map) for label in labels)
            )
    raise BadLabelConfig(
        f"{where} is no control that this model can fill; it fills <Choices>, <Taxonomy>, <Rating> and "
        "<Number>."
    )


def match_labels(
    where: str, options: Sequence[Option], labels: Sequence[str], label_map: Mapping[str, str]
) -> tuple[Any, ...]:
    """What stands for each label: the option shown with the same text, then ignoring case, then by its other
    words, then by `label_map`.
    """

    def chosen(label: str) -> Option | None:
        mapped = label_map.get(label)
        rules = (
            lambda option: option.shown == label,
            lambda option: option.shown.casefold() == label.casefold(),
            lambda option: label.casefold() in (word.casefold() for word in option.others),
            lambda option: mapped is not None and mapped in (option.shown, *option.others),
        )
        return next((option for rule in rules for option in options if rule(option)), None)

    found = {label: chosen(label) for label in labels}
    missing = [label for label, option in found.items() if option is None]
    if missing:
        raise BadLabelConfig(
            f"{where} has no choice for the model's label{'s' if len(missing) > 1 else ''} "
            f"{listed(missing)}; its choices are "
            f"{listed([option.shown for option in options]) or 'none'}. Rename a choice, give it that "
            f"alias, or start Prelabel with --map {missing[0]}=CHOICE."
        )
    matched = tuple(option.stored for option in found.values() if option is not None)
    if len(set(matched)) != len(matched):
        raise BadLabelConfig(
            f"{where}: one choice stands for two of the model's labels {listed(labels)}; check --map."
        )
    return matched


def listed(words: Sequence[str]) -> str:
    """The words in quotes, the first twenty of many."""
    more = f" and {len(words) - 20} more" if len(words) > 20 else ""
    return ", ".join(f'"{word}"' for word in words[:20]) + more


def _choices(element: Element) -> list[Option]:
    return [_option(choice, _stored(choice)) for choice in element.iter("Choice") if _stored(choice)]


def _paths(element: Element) -> list[Option]:
    """Every node of a taxonomy, shown by its last step; it also goes by all its steps with / between."""

    def below(node: Element, path: tuple[str, ...], shown: tuple[str, ...]) -> list[Option]:
        found = []
        for choice in node.findall("Choice"):
            if _stored(choice):
                steps, names = (*path, _stored(choice)), (*shown, choice.get("value") or _stored(choice))
                found += [
                    Option(steps, names[-1], (choice.get("alias") or "", "/".join(names))),
                    *below(choice, steps, names),
                ]
        return found

    return below(element, (), ())


def _stars(attributes: Mapping[str, str]) -> list[Option]:
    try:
        most = int(attributes.get("maxrating", "5"))
    except ValueError:
        most = 5
    return [Option(n, str(n), (f"{n} star", f"{n} stars")) for n in range(1, min(most, MOST_STARS) + 1)]


def _number(
    where: str, attributes: Mapping[str, str], label: str, label_map: Mapping[str, str]
) -> int | float:
    for words in (label, label_map.get(label, "")):
        number = _finite(words)
        if number is not None:
            low, high = _finite(attributes.get("min", "")), _finite(attributes.get("max", ""))
            if (low is not None and number < low) or (high is not None and number > high):
                raise BadLabelConfig(
                    f"{where}: {number:g}, for the model's label {listed([label])}, lies outside its "
                    "min and max."
                )
            return int(number) if number.is_integer() else number
    raise BadLabelConfig(
        f"{where} holds a number, and the model's label {listed([label])} is none; start Prelabel with "
        f"--map {label}=NUMBER."
    )


def _finite(words: str) -> float | None:
    try:
        number = float(words)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _stored(choice: Element) -> str:
    return choice.get("alias") or choice.get("value") or ""


def _option(choice: Element, stored: str) -> Option:
    return Option(stored, choice.get("value") or stored, (stored,))
