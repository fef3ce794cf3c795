"""The labeling config that a trained bundle comes with."""

import re
from collections.abc import Sequence
from pathlib import Path

from server.errors import BadInput, BadLabelConfig
from server.label_studio.labeling_config import read_plan
from server.label_studio.object_tags import TextField
from server.label_studio.simple_config import simple_config
from server.offline.labelled import LabelledSource
from server.offline.records import TEXT
from server.offline.row_texts import value_of

NO_NAME = re.compile(r"[^\w.\[\]]+", re.ASCII)
"""What Label Studio's editor does not read as part of a name after `$`: also letters that are not ASCII."""


def labeling_config(source: LabelledSource, labels: Sequence[str], *, several: bool) -> str:
    """That of the source, or one for these labels and the column of the texts."""
    if source.label_config is not None:
        return source.label_config
    return simple_config(value_of(_column(source)), labels, several=several)


def check_labels(labels: Sequence[str], path: Path) -> None:
    """Raises BadInput for labels that no labeling config can have; `path` is named."""
    try:
        read_plan(simple_config("$text", labels, several=False), labels, {})
    except BadLabelConfig as error:
        raise BadInput(
            f"{path}: Label Studio cannot have these labels; rename them in the file. {error}"
        ) from None


def renamed_column(source: LabelledSource) -> str | None:
    """A sentence if the labeling config cannot name the column of the texts as it is."""
    column = _column(source)
    if source.label_config is not None or column == source.text or source.text is None:
        return None
    return (
        f'Label Studio\'s configs cannot name the column "{source.text}". The labeling config reads '
        f'"{column}": rename the column in the file that you import.'
    )


def _column(source: LabelledSource) -> str:
    """The text's column, as a labeling config can name it."""
    name = source.text or TEXT
    if "$" in name and TextField("", "text", name).fields:
        return name
    renamed = NO_NAME.sub("_", name)
    return renamed if renamed.strip("_.[]") else TEXT
