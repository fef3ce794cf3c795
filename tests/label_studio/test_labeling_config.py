"""Labeling configs: the field, the choices and the labels they stand for, or a plain sentence."""

import tracemalloc
from typing import Any

import pytest

from server.errors import BadLabelConfig
from server.label_studio.control_tags import Control
from server.label_studio.labeling_config import TUTORIAL_CONFIG, ControlBinding, LabelingPlan, read_plan
from server.label_studio.object_tags import TextField

LABELS = ("Negative", "Positive")


def config(
    choices: str, text: str = '<Text name="t" value="$body"/>', attributes: str = 'name="c" toName="t"'
) -> str:
    return f"<View><View>{text}<Header value='?'/></View><Choices {attributes}>{choices}</Choices></View>"


def test_the_error_of_broken_xml_is_without_the_parsers_name_for_it() -> None:
    with pytest.raises(BadLabelConfig, match="cannot be read") as error:
        read_plan("<View><Text></View>", ("Negative", "Positive"), {})
    assert "<string>" not in str(error.value)


def test_the_tutorials_config() -> None:
    assert read_plan(TUTORIAL_CONFIG, LABELS, {}) == LabelingPlan(
        (TextField("text", "text", "$review"),),
        (ControlBinding(Control("sentiment", "choices", ("Negative", "Positive")), 0),),
    )


@pytest.mark.parametrize(
    ("choices", "label_map", "expected"),
    [
        ('<Choice value="Positive"/><Choice value="Negative"/>', {}, ("Negative", "Positive")),
        (
            '<Choice value="positive"/><Choice value="NEGATIVE"/><Choice value="Unsure"/>',
            {},
            ("NEGATIVE", "positive"),
        ),
        (
            '<Choice value="positive"/><Choice value="Positive"/><Choice value="Negative"/>',
            {},
            ("Negative", "Positive"),
        ),
        (
            '<Choice value="Thumbs up" alias="positive"/><Choice value="Thumbs down" alias="Negative"/>',
            {},
            ("Negative", "positive"),
        ),
        ('<Choice value="Positive" alias="pos"/><Choice value="Negative" alias="neg"/>', {}, ("neg", "pos")),
        (
            '<Choice value="neg"/><Choice value="pos"/>',
            {"Negative": "neg", "Positive": "pos"},
            ("neg", "pos"),
        ),
        ('<Choice value="neg"/><Choice value="Positive"/>', {"Negative": "neg"}, ("neg", "Positive")),
    ],
)
def test_choices_are_matched_by_text_then_case_then_alias_then_map(
    choices: str, label_map: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert read_plan(config(choices), LABELS, label_map) == LabelingPlan(
        (TextField("t", "text", "$body"),), (ControlBinding(Control("c", "choices", expected), 0),)
    )


def filled(
    config: str, labels: tuple[str, ...] = LABELS, label_map: dict[str, str] | None = None
) -> dict[str, tuple[Any, ...]]:
    """Each control that is filled, with its values in class order."""
    return {
        binding.control.name: binding.control.values
        for binding in read_plan(config, labels, label_map or {}).bindings
    }


CHOICES = '<Choice value="Negative"/><Choice value="Positive"/>'


def test_every_control_that_fits_is_filled_and_each_text_is_read_once() -> None:
    plan = read_plan(
        f"""<View><View><Text name="t" value="$title"/></View><HyperText name="h" value="$page"/>
        <Paragraphs name="p" value="$talk" textKey="says"/>
        <Choices name="a" toName="t">{CHOICES}</Choices>
        <Choices name="topic" toName="t"><Choice value="Film"/></Choices>
        <View visibleWhen="choice-selected">
        <Choices name="b" toName="t" choice="multiple">{CHOICES}</Choices></View>
        <Choices name="c" toName="h">{CHOICES}</Choices><Choices name="d" toName="p">{CHOICES}</Choices>
        <TextArea name="why" toName="t"/></View>""",
        LABELS,
        {},
    )
    assert [(binding.control.name, binding.field, binding.control.several) for binding in plan.bindings] == [
        ("a", 0, False), ("b", 0, True), ("c", 1, False), ("d", 2, False),
    ]  # fmt: skip
    assert plan.texts({"title": "x", "page": "<b>y</b>", "talk": [{"says": "z"}]}) == ("x", "y", "z")
    assert plan.summary == "a ← t ($title), b ← t ($title), c ← h ($page), d ← p ($talk)"


TAXONOMY = """<View><Text name="t" value="$body"/><Taxonomy name="x" toName="t">
<Choice value="Opinion"><Choice value="Negative" alias="neg"/>
<Choice value="Good"><Choice value="Positive"/></Choice></Choice><Choice value="Other"/></Taxonomy></View>"""


def test_a_taxonomys_paths_are_matched_by_their_last_step_or_by_all_of_them() -> None:
    assert filled(TAXONOMY) == {"x": (("Opinion", "neg"), ("Opinion", "Good", "Positive"))}
    assert filled(TAXONOMY, ("NEG", "Opinion/Good")) == {"x": (("Opinion", "neg"), ("Opinion", "Good"))}
    with pytest.raises(
        BadLabelConfig,
        match='<Taxonomy name="x"> has no choice for the model\'s label "Mixed"; '
        'its choices are "Opinion", "Opinion/Negative"',
    ):
        filled(TAXONOMY, ("Negative", "Mixed"))


def test_a_taxonomy_of_long_nested_names_is_refused_before_it_fills_the_memory() -> None:
    """Each leaf has a path of 200,000 characters."""
    leaves = "".join(f'<Choice value="{number}"/>' for number in range(5_000))
    names = ["".join((str(level), "x" * 1_000)) for level in range(200)]
    above = "".join(f'<Choice value="{name}">' for name in names)
    answers = '<Choice value="Negative"/><Choice value="Positive"/>'
    taxonomy = f'<Taxonomy name="c" toName="t">{answers}{above}{leaves}{"</Choice>" * 200}</Taxonomy>'
    tracemalloc.start()
    try:
        with pytest.raises(BadLabelConfig, match="paths of nested choices have more than 10,000,000"):
            filled(number(taxonomy))
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_whole_path_is_matched_before_a_last_step() -> None:
    paths = """<Choice value="Film"><Choice value="Other"/><Choice value="Bad"/></Choice>
    <Choice value="Book"><Choice value="Bad"/></Choice><Choice value="Other"/>"""
    for tag in ("Taxonomy", 'Choices allowNested="true"'):
        name = tag.split()[0]
        config = f'<View><Text name="t" value="$body"/><{tag} name="x" toName="t">{paths}</{name}></View>'
        labels = ("Other", "Film/Other", "Book/Bad", "film/bad")
        assert filled(config, labels) == {
            "x": (("Other",), ("Film", "Other"), ("Book", "Bad"), ("Film", "Bad"))
        }


def number(tag: str) -> str:
    return f'<View><Text name="t" value="$body"/>{tag}</View>'


def test_ratings_and_numbers_are_filled_where_labels_are_numbers_or_mapped_to_some() -> None:
    assert filled(number('<Rating name="r" toName="t"/>'), ("1", "5 stars", "3 Stars")) == {"r": (1, 5, 3)}
    assert filled(number('<Rating name="r" toName="t"/>'), LABELS, {"Negative": "1", "Positive": "5"}) == {
        "r": (1, 5)
    }
    assert filled(number('<Number name="n" toName="t" min="-1" max="1"/>'), ("-1", "0.5")) == {"n": (-1, 0.5)}
    assert filled(number('<Number name="n" toName="t"/>'), LABELS, {"Negative": "0", "Positive": "1"}) == {
        "n": (0, 1)
    }


@pytest.mark.parametrize(
    ("tag", "labels", "message"),
    [
        (
            '<Rating name="r" toName="t" maxRating="3"/>',
            ("1", "5"),
            '<Rating name="r"> has no choice for the model\'s label "5"',
        ),
        (
            '<Rating name="r" toName="t" maxRating="999999999999"/>',
            ("1", "bad"),
            '"bad"; its choices are "1".*and 80 more',
        ),
        (
            '<Rating name="r" toName="t" maxRating="many"/>',
            ("0", "1"),
            '"0"; its choices are "1", "2", "3", "4", "5"',
        ),
        (
            '<Number name="n" toName="t"/>',
            ("1", "bad"),
            '"bad" is not one. Start Prelabel with --map bad=NUMBER',
        ),
        ('<Number name="n" toName="t"/>', ("1", "inf"), '"inf" is not one'),
        ('<Number name="n" toName="t" max="3"/>', ("1", "5"), '5, for the model\'s label "5", is outside'),
        (
            f'<Choices name="c" toName="t" perRegion="true">{CHOICES}</Choices>',
            LABELS,
            'has perRegion="true"',
        ),
        (f'<Choices name="c" toName="t" perItem="true">{CHOICES}</Choices>', LABELS, 'has perItem="true"'),
        (
            '<Choices name="c" toName="t" value="$options"/>',
            LABELS,
            "loads its choices from elsewhere. Write them into the config",
        ),
        ('<Taxonomy name="c" toName="t" apiUrl="http://x"/>', LABELS, "loads its choices from elsewhere"),
        (f'<Choices name="c_{{{{idx}}}}" toName="t">{CHOICES}</Choices>', LABELS, "is inside a <Repeater>"),
        (f'<Choices name="c" toName="t,t">{CHOICES}</Choices>', LABELS, "must have one tag in toName"),
        ('<TextArea name="c" toName="t"/>', LABELS, "no <Choices> tag"),
    ],
)
def test_a_control_that_cannot_be_filled_is_refused_by_its_name(
    tag: str, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadLabelConfig, match=message):
        filled(number(tag), labels)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        (
            '<Text name="t" value="$body" valueType="url"/>',
            '<Text name="t"> has valueType="url"; Prelabel fetches nothing',
        ),
        ('<HyperText name="t" value="$body" encoding="base64"/>', '<HyperText name="t"> has an encoding'),
        ('<Text name="t" value="$body[{{idx}}].text"/>', "is inside a <Repeater>"),
        ('<Text name="t" value="$"/>', "must take its text from the task"),
        (
            '<Audio name="t" value="$url"/>',
            '<Audio name="t"> is not a text; this model reads <Text>, <HyperText> and <Paragraphs>',
        ),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_by_its_name(tag: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message):
        filled(f'<View>{tag}<Choices name="c" toName="t">{CHOICES}</Choices></View>')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("no xml", "cannot be read"),
        ("<View><Text", "cannot be read"),
        ("<View/>", "no <Choices> tag"),
        (
            config('<Choice value="Good"/>'),
            'no choice for the model\'s labels "Negative", "Positive"; its choices are "Good"',
        ),
        (config('<Choice value="Positive"/>'), 'label "Negative".*--map Negative=CHOICE'),
        (config("", text='<Image name="t" value="$url"/>'), "<Image name=.t.> is not a text"),
        (config("", attributes='name="c" toName="absent"'), "is no tag of the config"),
        (
            config(
                '<Choice value="Positive"/><Choice value="Negative"/>', text='<Text name="t" value="fixed"/>'
            ),
            "must take its text from the task",
        ),
        (
            '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>',
            "document type or an entity",
        ),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message) as raised:
        read_plan(text, LABELS, {})
    assert "\n" not in str(raised.value)


MANY = "".join(f'<Choices name="c{i}" toName="t">{CHOICES}</Choices>' for i in range(200))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (config(CHOICES) + " " * 500_000, "has 500,1.. characters; the limit is 500,000"),
        (number(MANY), "asks for about .* characters of answer for each task; the limit is 20,000"),
        (
            config(CHOICES.replace('"Negative"', '"Negative" alias="' + "x" * 20_000 + '"')),
            "asks for about 20,",
        ),
        (config(CHOICES, text=f'<Text name="t" value="$a{"x" * 10_000}"/>'), "a value that is too long"),
        (
            config(CHOICES, text=f'<Text name="t" value="{"$a " * 21}"/>'),
            "a value that is too long; the limits are 10,000 characters and 20 fields",
        ),
        (
            config(CHOICES, text=f'<Text name="t" value="$a{"[0].b" * 150}"/>'),
            "looks up paths of 301 steps in each task; the limit is 300",
        ),
        (
            "<View>"
            + "".join(
                f'<Text name="t{i}" value="{" ".join(f"$f{i}.a.b{j}" for j in range(10))}"/>'
                f'<Choices name="c{i}" toName="t{i}">{CHOICES}</Choices>'
                for i in range(11)
            )
            + "</View>",
            "looks up paths of 330 steps in each task",
        ),
    ],
)
def test_a_config_that_costs_too_much_for_each_task_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message):
        read_plan(text, LABELS, {})


def test_a_tag_of_very_many_attributes_is_refused_before_it_is_parsed() -> None:
    """The SDK would read them in quadratic time."""

    def with_attributes(number: int) -> str:
        attributes = " ".join(f"a{i} = 'b'" for i in range(number))
        return config(CHOICES, text=f'<Text name="t" value="$body" {attributes}/>')

    assert len(read_plan(with_attributes(900), LABELS, {}).bindings) == 1
    with pytest.raises(BadLabelConfig, match="a tag with more than 1,000 attributes"):
        read_plan(with_attributes(1_000), LABELS, {})


def test_the_first_of_several_choices_that_fit_is_taken() -> None:
    choices = (
        '<Choice value="a" alias="negative"/><Choice value="b" alias="Negative"/><Choice value="POSITIVE"/>'
    )
    assert filled(config(choices + '<Choice value="Positive"/>')) == {"c": ("negative", "Positive")}


def test_one_choice_cannot_stand_for_two_labels() -> None:
    with pytest.raises(BadLabelConfig, match="stands for two"):
        read_plan(config('<Choice value="same"/>'), LABELS, {"Negative": "same", "Positive": "same"})


def test_an_error_for_many_controls_lists_a_few() -> None:
    controls = "".join(f'<Number name="n{i}" toName="t"/>' for i in range(500))
    with pytest.raises(BadLabelConfig, match="And 497 more") as raised:
        read_plan(f'<View><Text name="t" value="$review"/>{controls}</View>', LABELS, {})
    assert len(raised.value.args[0]) < 2_000
