"""Labeling configs: the field, the choices and the labels they stand for, or a plain sentence."""

import pytest

from server.errors import BadLabelConfig
from server.label_studio.config import TUTORIAL_CONFIG, Target, find_target

LABELS = ("Negative", "Positive")


def config(choices: str, text: str = '<Text name="t" value="$body"/>', attributes: str = 'name="c" toName="t"') -> str:
    return f"<View><View>{text}<Header value='?'/></View><Choices {attributes}>{choices}</Choices></View>"


def test_the_tutorials_config() -> None:
    assert find_target(TUTORIAL_CONFIG, LABELS, {}) == Target("sentiment", "text", "review", ("Negative", "Positive"))


@pytest.mark.parametrize(
    ("choices", "label_map", "expected"),
    [
        ('<Choice value="Positive"/><Choice value="Negative"/>', {}, ("Negative", "Positive")),
        ('<Choice value="positive"/><Choice value="NEGATIVE"/><Choice value="Unsure"/>', {}, ("NEGATIVE", "positive")),
        ('<Choice value="positive"/><Choice value="Positive"/><Choice value="Negative"/>', {}, ("Negative", "Positive")),
        ('<Choice value="Thumbs up" alias="positive"/><Choice value="Thumbs down" alias="Negative"/>', {}, ("Negative", "positive")),
        ('<Choice value="Positive" alias="pos"/><Choice value="Negative" alias="neg"/>', {}, ("neg", "pos")),
        ('<Choice value="neg"/><Choice value="pos"/>', {"Negative": "neg", "Positive": "pos"}, ("neg", "pos")),
        ('<Choice value="neg"/><Choice value="Positive"/>', {"Negative": "neg"}, ("neg", "Positive")),
    ],
)
def test_choices_are_matched_by_text_then_case_then_alias_then_map(choices: str, label_map: dict[str, str], expected: tuple[str, ...]) -> None:
    assert find_target(config(choices), LABELS, label_map) == Target("c", "t", "body", expected)


def test_the_first_choices_that_fit_are_taken() -> None:
    two = (
        config('<Choice value="Yes"/>')
        .replace("</View><Choices", '</View><Choices name="first" toName="t"><Choice value="No"/></Choices><Choices', 1)
        .replace('<Choice value="Yes"/>', '<Choice value="Negative"/><Choice value="Positive"/>')
    )
    assert find_target(two, LABELS, {}).from_name == "c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("no xml", "cannot be read"),
        ("<View><Text", "cannot be read"),
        ("<View/>", "no <Choices> tag"),
        (config('<Choice value="Good"/>'), 'no choice for the model\'s labels "Negative", "Positive"; its choices are "Good"'),
        (config('<Choice value="Positive"/>'), 'label "Negative".*--map Negative=CHOICE'),
        (config("", text='<Image name="t" value="$url"/>'), "belongs to <Image>"),
        (config("", attributes='name="c" toName="nobody"'), "belongs to nothing|cannot be read"),
        (config('<Choice value="Positive"/><Choice value="Negative"/>', text='<Text name="t" value="fixed"/>'), "must take its text from the task"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>', "document type or an entity"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message) as refusal:
        find_target(text, LABELS, {})
    assert "\n" not in str(refusal.value)


def test_one_choice_cannot_stand_for_two_labels() -> None:
    with pytest.raises(BadLabelConfig, match="stands for two"):
        find_target(config('<Choice value="same"/>'), LABELS, {"Negative": "same", "Positive": "same"})
