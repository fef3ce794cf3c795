"""Properties of pure functions, by hypothesis: any text, any JSON value."""

import json
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import LONGEST, BadInput, BadLabelConfig, BadRequest
from server.label_studio.control_tags import Answers
from server.label_studio.exported_labels import LabelReader, Reason, controls_of, decide, is_exported
from server.label_studio.extra_params import requested_scoring
from server.label_studio.html_text import visible_text
from server.label_studio.labeling_config import read_plan
from server.label_studio.object_tags import TextField, as_text, look_up
from server.offline.records import open_records
from server.scoring import SCORES, Scoring
from tests.fuzz.mutate import XML_PARTS, changed_json, changed_xml, cut

TEXTS = st.text(st.characters(codec=None), max_size=30)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(2**63), 2**64, 1e308]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.lists(st.one_of(TEXTS, st.sampled_from(XML_PARTS)), max_size=12).map("".join))
def test_any_labeling_config_is_a_plan_or_an_error(config: str) -> None:
    with suppress(BadLabelConfig):
        read_plan(config, ("Negative", "Positive"), {})
    with suppress(BadLabelConfig):
        read_plan(f"<View>{config}</View>", ("Negative", "Positive"), {})


@given(st.one_of(JSON, st.fixed_dictionaries({}, optional={"score": JSON, "threshold": JSON})))
def test_any_extra_params_are_a_scoring_or_an_error(value: Any) -> None:
    for each in (value, json.dumps(value, ensure_ascii=False)):
        with suppress(BadRequest):
            scoring = requested_scoring(each, Scoring())
            assert scoring.score in SCORES
            assert 0 < scoring.threshold <= 1


@given(JSON, st.one_of(TEXTS, st.text("$a.[]0 \n9", max_size=20)))
def test_any_value_under_any_path_of_any_data_is_a_text_or_none(data: Any, path: str) -> None:
    look_up(data, path)
    for tag in ("text", "hypertext", "paragraphs"):
        found = TextField("t", tag, path).text(data)
        assert found is None or isinstance(found, str)
    assert as_text(data) is None or isinstance(as_text(data), str)


WORDS = st.text("abc &é", max_size=5).filter(lambda text: "&" not in text)
PAGES = st.recursive(
    WORDS,
    lambda inner: st.tuples(st.sampled_from(["b", "P", "div", "x-y"]), st.lists(inner, max_size=3)).map(
        lambda each: f'<{each[0]} a="<">{"".join(each[1])}</{each[0]}>'
    ),
)


@given(PAGES)
def test_the_words_of_a_well_formed_page_are_those_between_its_tags(page: str) -> None:
    parts = page.replace('a="<"', "").replace("<", "\0<").replace(">", ">\0").split("\0")
    assert visible_text(page).replace("\n", "") == "".join(part for part in parts if not part.startswith("<"))


@given(TEXTS)
def test_a_page_of_any_text_is_read(page: str) -> None:
    assert isinstance(visible_text(page), str)


REGIONS = st.fixed_dictionaries(
    {},
    optional={
        "from_name": st.one_of(st.just("c"), JSON),
        "value": st.one_of(JSON, st.fixed_dictionaries({"choices": JSON})),
    },
)
ANNOTATIONS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"result": st.lists(st.one_of(REGIONS, JSON))}, optional={"ground_truth": JSON, "was_cancelled": JSON}
    ),
)


@given(st.fixed_dictionaries({"data": JSON, "annotations": st.lists(ANNOTATIONS, max_size=4)}))
def test_the_label_of_any_exported_task_is_read_or_has_a_reason(task: Any) -> None:
    if is_exported(task):
        controls_of(task)
        for reader in (LabelReader("c"), LabelReader("c", Answers("c", "choices", ()))):
            answers = reader.answers(task)
            for several in (False, True):
                labels = decide(answers, several=several)
                assert isinstance(labels, Reason) or (labels and labels == tuple(sorted(set(labels))))


@given(st.one_of(JSON, JSON.map(json.dumps)))
def test_any_cell_of_a_table_is_read(cell: Any) -> None:
    for nested in (False, True):
        for control in (None, Answers("c", "choices", None, nested=nested)):
            answer = LabelReader("c", control).cell(cell, exported=nested)
            assert all(isinstance(label, str) for label in answer.labels)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists") / "a.json"


@given(st.lists(JSON, max_size=5), st.sampled_from([None, 1]))
def test_a_json_list_of_anything_is_read_as_the_library_reads_it(
    path: Path, rows: list[Any], indent: int | None
) -> None:
    written = json.dumps(rows, indent=indent)
    path.write_text(written, "utf-8")
    with open_records(path) as (records, _):
        assert json.dumps(list(records)) == json.dumps(json.loads(written))


@given(st.text())
def test_an_error_message_is_one_line_of_limited_length(words: str) -> None:
    said = str(BadInput(words * 50))
    assert len(said.splitlines()) <= 1
    assert len(said) <= LONGEST + 1


@given(JSON, st.binary(max_size=50), st.integers())
def test_mutations_of_anything_are_bytes_and_texts(value: Any, data: bytes, seed: int) -> None:
    random = Random(seed)
    assert isinstance(changed_json(value, random, changed_xml), bytes)
    assert isinstance(cut(data, random), bytes)
    assert isinstance(changed_xml(repr(value), random), str)
