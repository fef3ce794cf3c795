"""The labeling config that a trained bundle comes with."""

from pathlib import Path

import pytest

from export.training.labeling_config import labeling_config, renamed_column
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.labelled import LabelledSource

LABELS = ("Negative", "Positive")


@pytest.mark.parametrize(
    ("text", "value", "renamed"),
    [
        (None, "$review", False),
        ("body", "$body", False),
        ("review.body", "$review.body", False),
        ("$title: $body", "$title: $body", False),
        ("my column", "$my_column", True),
        ("text (en)", "$text_en_", True),
        ("本文", "$review", True),
        ("Größe", "$Gr_e", True),
        ("price in $", "$price_in_", True),
    ],
)
def test_it_names_the_column_of_the_texts_as_label_studio_can(
    text: str | None, value: str, renamed: bool
) -> None:
    source = LabelledSource(Path("in.csv"), text)
    (field,) = read_plan(labeling_config(source, LABELS, several=False), LABELS, {}).fields
    assert field.value == value
    sentence = renamed_column(source)
    assert (sentence is not None) == renamed
    assert sentence is None or f'"{value[1:]}": rename the column' in sentence


def test_a_config_of_ones_own_is_kept() -> None:
    source = LabelledSource(Path("in.csv"), None, None, TUTORIAL_CONFIG)
    assert labeling_config(source, LABELS, several=True) == TUTORIAL_CONFIG
    assert renamed_column(source) is None
