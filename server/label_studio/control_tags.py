"""Fills controls, and reads what people filled in: `<Choices>`, `<Taxonomy>`, `<Rating>` and `<Number>`.

Each of the model's labels is matched to a value that the control can hold: a choice, a path of a taxonomy or
of nested choices, a number of stars, a number. Label Studio's editor stores a choice's alias where it has
one, else its value; predictions do the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from label_studio_sdk.label_interface.control_tags import ControlTag

from server.arrays import Floats
from server.errors import BadLabelConfig

Element: TypeAlias = Any
"""An element of the config's XML, as lxml parses it for the SDK."""

Kind = Literal["choices", "taxonomy", "rating", "number"]
KINDS: tuple[Kind, ...] = ("choices", "taxonomy", "rating", "number")

STEP = "/"
"""Between the steps of a path, in a label."""

Path: TypeAlias = tuple[str, ...]
"""The steps to a choice below others."""

MAX_STARS = 100
"""Stars of a <Rating>; Label Studio's default is 5."""

MAX_LISTED = 20
"""Words that an error message lists."""


MAX_PATHS = 10_000_000
"""Maximum characters of the paths of a control's nested choices: a config of 500,000 characters with long
steps above many leaves would take gigabytes.
"""


@dataclass(frozen=True)
class Control:
    """A control that the model can fill.

    `values` has a value for each label, in class order. `several`: a region may hold several of them.
    `subtrees` is not empty for nested choices, and has all paths that a region holds for each label.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...]
    several: bool = False
    subtrees: tuple[tuple[Path, ...], ...] = ()

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
        values = [value for index in chosen for value in self.stored(index)]
        if self.kind in ("rating", "number"):
            return {self.kind: values[0]}
        distinct = dict.fromkeys(values)
        return {self.kind: [list(value) if isinstance(value, tuple) else value for value in distinct]}

    def stored(self, index: int) -> tuple[Any, ...]:
        """What a region holds for the label of this index. Label Studio's editor selects a choice that has
        choices below it only together with all of them.
        """
        return self.subtrees[index] if self.subtrees else (self.values[index],)


@dataclass(frozen=True)
class Option:
    """A value that a control can hold: what Label Studio stores, what it shows, and other names for it."""

    stored: Any
    shown: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """What people can fill into a control. `options` is None where that is any number."""

    name: str
    kind: Kind
    options: tuple[Option, ...] | None
    several: bool = False
    nested: bool = False

    @cached_property
    def _find(self) -> Callable[[str], Option | None]:
        return _finder(self.options or (), {})

    @cached_property
    def _stored(self) -> frozenset[str]:
        return frozenset(name_of(option.stored) for option in self.options or ())

    def label(self, name: str) -> str | None:
        """The label that the name of an answer stands for: the name of the stored value. None if the control
        cannot hold it.
        """
        if self.options is None or name in self._stored:
            return name
        option = self._find(name)
        return None if option is None else name_of(option.stored)


def name_of(stored: object) -> str:
    """The label that a stored value stands for; the steps of a path are joined by `/`."""
    if isinstance(stored, list | tuple):
        return STEP.join(map(name_of, stored))
    if isinstance(stored, float) and stored.is_integer():
        return str(int(stored))
    return str(stored).strip()


def read_answers(tag: ControlTag, element: Element) -> Answers:
    """What people can fill into a tag; `element` is the tag in the config's XML. Raises BadLabelConfig for a
    control that does not label whole tasks, or whose choices are not in the config.
    """
    name = tag.name or ""
    where = _where(tag)
    attributes = _attributes(tag)
    _check_whole_task(where, name, attributes)
    if tag.dynamic_value:
        raise BadLabelConfig(
            f"{where} loads its choices from elsewhere. Write them into the config; they must be the model's "
            "labels."
        )
    match (tag.tag or "").lower():
        case "choices":
            nested = attributes.get("allownested") == "true"
            options = _paths(element) if nested else _choices(element)
            several = attributes.get("choice") == "multiple"
            return Answers(name, "choices", tuple(options), several, nested)
        case "taxonomy":
            return Answers(name, "taxonomy", tuple(_paths(element)), nested=True)
        case "rating":
            return Answers(name, "rating", tuple(_stars(attributes)))
        case "number":
            return Answers(name, "number", None)
    raise BadLabelConfig(
        f"{where} cannot be filled by this model; it fills <Choices>, <Taxonomy>, <Rating> and <Number>."
    )


def read_control(
    tag: ControlTag, element: Element, labels: Sequence[str], label_map: Mapping[str, str]
) -> Control:
    """The control of a tag; `element` is the tag in the config's XML. Raises BadLabelConfig if this model
    cannot fill it.
    """
    answers = read_answers(tag, element)
    where = _where(tag)
    values: tuple[Any, ...]
    if answers.options is None:
        values = tuple(_number(where, _attributes(tag), label, label_map) for label in labels)
    else:
        values = match_labels(where, answers.options, labels, label_map)
    is_nested = answers.kind == "choices" and answers.nested
    subtrees = _subtrees(answers.options or (), values) if is_nested else ()
    return Control(answers.name, answers.kind, values, answers.several, subtrees)


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


def _where(tag: ControlTag) -> str:
    return f'<{tag.tag} name="{tag.name or ""}">'


def _attributes(tag: ControlTag) -> dict[str, str]:
    return {name.lower(): value for name, value in (tag.attr or {}).items()}


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


def _paths(element: Element) -> list[Option]:
    """Every node of a taxonomy or of nested choices: shown by all its steps joined by /. Its last step and
    its alias are other names, for models whose labels are the last steps. Raises BadLabelConfig for paths of
    too many characters.
    """
    characters = 0

    def below(node: Element, path: tuple[str, ...], shown: tuple[str, ...]) -> list[Option]:
        nonlocal characters
        found = []
        for choice in _choices_in(node):
            if stored := _stored(choice):
                steps, names = (*path, stored), (*shown, choice.get("value") or stored)
                characters += sum(map(len, steps)) + sum(map(len, names))
                if characters > MAX_PATHS:
                    raise BadLabelConfig(
                        f"The paths of nested choices have more than {MAX_PATHS:,} characters in all. Give "
                        "the choices shorter values, or nest them less."
                    )
                found.append(Option(steps, STEP.join(names), (STEP.join(steps), names[-1], stored)))
                found += below(choice, steps, names)
        return found

    return below(element, (), ())


def _choices_in(node: Element) -> Iterator[Element]:
    """The choices of a tag or a choice, also within tags that only lay them out."""
    for child in node:
        if child.tag == "Choice":
            yield child
        elif isinstance(child.tag, str):
            yield from _choices_in(child)


def _subtrees(options: Sequence[Option], paths: Sequence[Path]) -> tuple[tuple[Path, ...], ...]:
    """For each path, itself and all paths below it."""
    found: dict[Path, list[Path]] = {path: [] for path in paths}
    for option in options:
        for length in range(1, len(option.stored) + 1):
            below = found.get(option.stored[:length])
            if below is not None:
                below.append(option.stored)
    return tuple(tuple(found[path]) for path in paths)


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
