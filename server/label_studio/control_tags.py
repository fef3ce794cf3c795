"""Fills controls: `<Choices>`, `<Taxonomy>`, `<Rating>` and `<Number>`.

Each of the model's labels is matched to a value that the control can hold: a choice, a path of a taxonomy, a
number of stars, a number. Label Studio's editor stores a choice's alias where it has one, else its value;
predictions do the same.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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

MAX_STARS = 100
"""Stars of a <Rating>; Label Studio's default is 5."""

MAX_LISTED = 20
"""Words that an error message lists."""


@dataclass(frozen=True)
class Control:
    """A control that the model can fill.

    `values` has a value for each label, in class order. `several`: a region may hold several of them.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...]
    several: bool = False

    def fill(self, probabilities: Floats, threshold: float) -> list[dict[str, Any] | None]:
        """A region's value for each row of probabilities float32[rows, classes].

        A control that takes several labels gets all at `threshold` or above, and None where there are none.
        Rows with the same single label share one value.
        """
        if self.several:
            return [self._value(np.flatnonzero(row >= threshold).tolist()) for row in probabilities]
        best = probabilities.argmax(axis=1).tolist()
        shared = {index: self._value([index]) for index in set(best)}
        return [shared[index] for index in best]

    def _value(self, chosen: list[int]) -> dict[str, Any] | None:
        if not chosen:
            return None
        values = [self.values[index] for index in chosen]
        if self.kind in ("rating", "number"):
            return {self.kind: values[0]}
        return {self.kind: [list(value) if isinstance(value, tuple) else value for value in values]}


@dataclass(frozen=True)
class Option:
    """A value that a control can hold: what Label Studio stores, what it shows, and other names for it."""

    stored: Any
    shown: str
    others: tuple[str, ...] = ()


def read_control(
    tag: ControlTag, element: Element, labels: Sequence[str], label_map: Mapping[str, str]
) -> Control:
    """The control of a tag; `element` is the tag in the config's XML. Raises BadLabelConfig if this model
    cannot fill it.
    """
    name = tag.name or ""
    where = f'<{tag.tag} name="{name}">'
    attributes = {name.lower(): value for name, value in (tag.attr or {}).items()}
    _check_whole_task(where, name, attributes)
    if tag.dynamic_value:
        raise BadLabelConfig(
            f"{where} loads its choices from elsewhere. Write them into the config; they must be the model's "
            f"labels {listed(labels)}."
        )
    match (tag.tag or "").lower():
        case "choices":
            values = match_labels(where, _choices(element), labels, label_map)
            return Control(name, "choices", values, several=attributes.get("choice") == "multiple")
        case "taxonomy":
            longest = max(len(word.casefold()) for word in (*labels, *label_map.values()))
            nodes = match_labels(where, _nodes(element, longest), labels, label_map)
            return Control(name, "taxonomy", tuple(map(_path, nodes)))
        case "rating":
            return Control(name, "rating", match_labels(where, _stars(attributes), labels, label_map))
        case "number":
            numbers = tuple(_number(where, attributes, label, label_map) for label in labels)
            return Control(name, "number", numbers)
    raise BadLabelConfig(
        f"{where} cannot be filled by this model; it fills <Choices>, <Taxonomy>, <Rating> and <Number>."
    )


def match_labels(
    where: str, options: Sequence[Option], labels: Sequence[str], label_map: Mapping[str, str]
) -> tuple[Any, ...]:
    """The stored value for each label. Raises BadLabelConfig for a label without an option, and for two
    labels with the same one.
    """
    find = _finder(options, label_map)
    found = {label: find(label) for label in labels}
    missing = [label for label, option in found.items() if option is None]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        choices = listed([option.shown for option in options]) or "none"
        raise BadLabelConfig(
            f"{where} has no choice for the model's label{plural} {listed(missing)}; its choices are "
            f"{choices}. Rename a choice, give it that alias, or start Prelabel with --map "
            f"{missing[0]}=CHOICE."
        )
    matched = tuple(option.stored for option in found.values() if option is not None)
    if len(set(matched)) != len(matched):
        raise BadLabelConfig(
            f"{where}: one choice stands for two of the model's labels {listed(labels)}. Check --map."
        )
    return matched


def listed(words: Sequence[str]) -> str:
    """The words in quotes; the first twenty if there are more."""
    more = f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else ""
    return ", ".join(f'"{word}"' for word in words[:MAX_LISTED]) + more


def _check_whole_task(where: str, name: str, attributes: Mapping[str, str]) -> None:
    """Raises BadLabelConfig for a control that labels parts of a task."""
    if "{{" in name:
        raise BadLabelConfig(
            f"{where} is inside a <Repeater>; this model labels whole tasks. Put the tag outside of it."
        )
    for scope in ("perRegion", "perItem"):
        if attributes.get(scope.lower()) == "true":
            raise BadLabelConfig(f'{where} has {scope}="true"; this model labels whole texts. Remove it.')


def _finder(options: Sequence[Option], label_map: Mapping[str, str]) -> Callable[[str], Option | None]:
    """Finds the option of a label by its text, else by its text in any case, else by another name in any
    case, else by the name in `label_map`. The first of several options wins.
    """
    exact: dict[str, Option] = {}
    folded: dict[str, Option] = {}
    others: dict[str, Option] = {}
    names: dict[str, Option] = {}
    for option in options:
        exact.setdefault(option.shown, option)
        folded.setdefault(option.shown.casefold(), option)
        names.setdefault(option.shown, option)
        for word in option.others:
            others.setdefault(word.casefold(), option)
            names.setdefault(word, option)

    def find(label: str) -> Option | None:
        any_case = label.casefold()
        return (
            exact.get(label)
            or folded.get(any_case)
            or others.get(any_case)
            or (names.get(label_map[label]) if label in label_map else None)
        )

    return find


def _choices(element: Element) -> list[Option]:
    return [
        Option(stored, choice.get("value") or stored, (stored,))
        for choice in element.iter("Choice")
        if (stored := _stored(choice))
    ]


Node: TypeAlias = tuple[Any, ...]
"""A node of a taxonomy: (the node above it, its last step); () for the root. With whole paths, a config of
500,000 characters with long steps above many leaves took gigabytes.
"""


def _nodes(element: Element, longest: int) -> list[Option]:
    """Every node of a taxonomy. It is shown by its last step; all steps joined by / are another name, unless
    that has more than `longest` characters and so is no label's.
    """
    options: list[Option] = []

    def add_below(element: Element, above: Node, names_above: str) -> None:
        for choice in element.findall("Choice"):
            if stored := _stored(choice):
                node, shown = (above, stored), choice.get("value") or stored
                names = f"{names_above}{shown}"[: longest + 1]  # what is too long stays too long further down
                others = (choice.get("alias") or "", names if len(names) <= longest else "")
                options.append(Option(node, shown, others))
                add_below(choice, node, f"{names}/")

    add_below(element, (), "")
    return options


def _path(node: Node) -> tuple[str, ...]:
    steps: list[str] = []
    while node:
        node, step = node
        steps.append(step)
    return tuple(reversed(steps))


def _stars(attributes: Mapping[str, str]) -> list[Option]:
    try:
        most = int(attributes.get("maxrating", "5"))
    except ValueError:
        most = 5
    return [Option(n, str(n), (f"{n} star", f"{n} stars")) for n in range(1, min(most, MAX_STARS) + 1)]


def _number(
    where: str, attributes: Mapping[str, str], label: str, label_map: Mapping[str, str]
) -> int | float:
    """The number that a label is, or is mapped to. Raises BadLabelConfig."""
    number = _finite(label)
    if number is None:
        number = _finite(label_map.get(label, ""))
    if number is None:
        raise BadLabelConfig(
            f"{where} holds a number, and the model's label {listed([label])} is not one. Start Prelabel "
            f"with --map {label}=NUMBER."
        )
    low, high = _finite(attributes.get("min", "")), _finite(attributes.get("max", ""))
    if (low is not None and number < low) or (high is not None and number > high):
        raise BadLabelConfig(
            f"{where}: {number:g}, for the model's label {listed([label])}, is outside its min and max."
        )
    return int(number) if number.is_integer() else number


def _finite(words: str) -> float | None:
    try:
        number = float(words)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _stored(choice: Element) -> str:
    return choice.get("alias") or choice.get("value") or ""
