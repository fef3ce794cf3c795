"""Which of the model's classes a label of a file is."""

from collections.abc import Callable, Mapping, Sequence

from server.errors import BadInput, BadLabelConfig
from server.label_studio.control_tags import STEP, name_of
from server.label_studio.labeling_config import read_plan
from server.offline.labelled import LabelledSource

ClassOf = Callable[[str], int | None]
"""The class of a label, None for a label that the model does not have."""


def label_classes(source: LabelledSource, labels: Sequence[str], label_map: Mapping[str, str]) -> ClassOf:
    """Finds the class of a label: with a labeling config as the server fills its control, else by the text.

    `label_map` maps the model's labels to those of the file. Raises BadLabelConfig.
    """
    if source.question is None or source.label_config is None:
        return _by_text(labels, label_map)
    return _by_config(source.question.answers.name, source.label_config, labels, label_map)


def class_of(name: str, find: ClassOf, labels: Sequence[str], where: str) -> int:
    """The class of a label. Raises BadInput, which says `where` the label is."""
    index = find(name)
    if index is None:
        raise BadInput(
            f'{where}: the label "{name}" is not one of the model\'s: {", ".join(labels)}. Give '
            f"--map LABEL={name}."
        )
    return index


def _by_config(control: str, config: str, labels: Sequence[str], label_map: Mapping[str, str]) -> ClassOf:
    plan = read_plan(config, labels, label_map)
    for binding in plan.bindings:
        if binding.control.name == control:
            return {name_of(value): index for index, value in enumerate(binding.control.values)}.get
    raise BadLabelConfig(
        f'The control "{control}" cannot hold the model\'s labels: {", ".join(labels)}. Choose another with '
        "--label, or give --map."
    )


def _by_text(labels: Sequence[str], label_map: Mapping[str, str]) -> ClassOf:
    """By the text, then ignoring case, then by the last step of a path."""
    to_model = {name: label for label, name in label_map.items()}
    exact = {label: index for index, label in reversed(list(enumerate(labels)))}
    folded = {label.casefold(): index for label, index in reversed(exact.items())}

    def find(name: str) -> int | None:
        for each in (name, name.rsplit(STEP, 1)[-1]):
            label = to_model.get(each, each)
            index = exact.get(label, folded.get(label.casefold()))
            if index is not None:
                return index
        return None

    return find
