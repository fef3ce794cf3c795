"""Labelled texts from tables and from what Label Studio exports: the texts as the server reads them, the
labels that annotators agree on, and what is left out and why.
"""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.errors import BadInput, BadLabelConfig
from server.label_studio.exported_labels import LabelReader, Reason, decide
from server.label_studio.labeling_config import read_plan, read_question
from server.offline.labelled import LabelledSource, LabelledTexts, open_labelled, read_labelled

CHOICES = '<Choice value="Positive"/><Choice value="Negative"/>'
HYPERTEXT = f"""<View><HyperText name="t" value="$html"/>
<Choices name="sentiment" toName="t">{CHOICES}</Choices></View>"""
PARAGRAPHS = f"""<View><Paragraphs name="t" value="$dialogue"/>
<Choices name="sentiment" toName="t">{CHOICES}</Choices></View>"""
SEVERAL_TEXTS = f"""<View><Text name="text" value="$title: $body"/><Text name="other" value="$body"/>
<Choices name="sentiment" toName="text">{CHOICES}</Choices></View>"""
NESTED_FIELD = f"""<View><Text name="text" value="$review.body"/>
<Choices name="sentiment" toName="text">{CHOICES}</Choices></View>"""
NESTED_CHOICES = """<View><Text name="t" value="$review"/>
<Choices name="sentiment" toName="t" allowNested="true">
<Choice value="Good"><Choice value="Very"/><Choice value="A bit"/></Choice>
<Choice value="Bad"><Choice value="Very"/></Choice></Choices></View>"""
MULTIPLE = f"""<View><Text name="t" value="$review"/>
<Choices name="sentiment" toName="t" choice="multiple">{CHOICES}</Choices></View>"""
TAXONOMY = """<View><Text name="t" value="$review"/><Taxonomy name="sentiment" toName="t">
<Choice value="Film"><Choice value="Bad"/><Choice value="Good" alias="fine"/></Choice>
<Choice value="Book"><Choice value="Bad"/></Choice></Taxonomy></View>"""


def annotation(
    *labels: Any, control: str = "sentiment", kind: str = "choices", **more: Any
) -> dict[str, Any]:
    """As Label Studio exports it: one region with the labels of one control."""
    region = {
        "id": "x",
        "type": kind,
        "from_name": control,
        "to_name": "t",
        "origin": "manual",
        "value": {kind: list(labels)},
    }
    return {
        "id": 1,
        "completed_by": 1,
        "result": [region] if labels else [],
        "was_cancelled": False,
        "ground_truth": False,
        **more,
    }


def exported(*annotations: Any, number: int = 7, **data: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": data or {"review": "good", "stars": 9},
        "annotations": list(annotations),
        "predictions": [],
        "drafts": [],
    }


def write(path: Path, rows: list[Any]) -> Path:
    """Rows as JSON, or as the CSV or TSV that Label Studio writes."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return path
    names = sorted({name for row in rows for name in row})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file,
            names,
            quoting=csv.QUOTE_NONNUMERIC,
            delimiter="\t" if path.suffix == ".tsv" else ",",
        )
        writer.writeheader()
        writer.writerows(
            {name: cell if isinstance(cell, str | int) else json.dumps(cell) for name, cell in row.items()}
            for row in rows
        )
    return path


def annotated(task: int, **columns: Any) -> dict[str, Any]:
    """A row of JSON_MIN, CSV or TSV."""
    return {"id": task, "annotation_id": 10 + task, "annotator": 1, "lead_time": "", **columns}


def read(path: Path, label: str | None = None, config: str | None = None) -> LabelledTexts:
    return read_labelled(LabelledSource(path, label=label, label_config=config))


def pairs(found: LabelledTexts) -> list[tuple[str, str]]:
    return [(text, ", ".join(labels)) for text, labels in zip(found.texts, found.labels, strict=True)]


# who decides


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ([annotation("Positive")], ("Positive",)),
        ([], Reason.UNANSWERED),
        ([annotation()], Reason.EMPTY),
        ([annotation("Positive", was_cancelled=True)], Reason.SKIPPED),
        ([annotation("Positive", was_cancelled=True), annotation()], Reason.EMPTY),
        ([annotation("Positive", was_cancelled=True), annotation("Negative")], ("Negative",)),
        ([annotation("Positive"), annotation("Negative"), annotation("Negative")], ("Negative",)),
        ([annotation("Positive"), annotation("Negative")], Reason.DISAGREE),
        ([annotation(each) for each in ("a", "a", "b", "c")], ("a",)),
        (
            [annotation("Positive"), annotation("Positive"), annotation("Negative", ground_truth=True)],
            ("Negative",),
        ),
        (
            [annotation(each, ground_truth=True) for each in ("Positive", "Negative")],
            Reason.DISAGREE,
        ),
        ([annotation(ground_truth=True), annotation("Positive")], ("Positive",)),
        ([annotation("Drama", control="genre")], Reason.EMPTY),
        ([annotation("Drama", control="genre"), annotation("Positive")], ("Positive",)),
        ([annotation("b", "a", "b")], ("a", "b")),
        ([annotation("a", "b"), annotation("b"), annotation("b", "c")], ("b",)),
        ([annotation("a", "b"), annotation("b")], Reason.DISAGREE),
        ([annotation("a", "b"), annotation("c"), annotation("d")], Reason.DISAGREE),
        ([annotation(["Film", "Drama"])], ("Film/Drama",)),
        # the editor also stores a choice with all that are below it
        ([annotation(["Film"], ["Film", "Drama"])], ("Film/Drama",)),
        ([annotation(["Film"], ["Film", "Drama"], ["Film", "War"])], ("Film",)),
        ([annotation(["Film", "Drama"], ["Film", "War"])], ("Film/Drama", "Film/War")),
        ([annotation(["Film"], ["Film", "Drama"], kind="taxonomy")], ("Film", "Film/Drama")),
        ([annotation(["Film", "Drama"], kind="taxonomy")], ("Film/Drama",)),
        ([{"result": [{"from_name": "sentiment", "type": "rating", "value": {"rating": 4}}]}], ("4",)),
        ([{"result": [{"from_name": "sentiment", "type": "number", "value": {"number": 2.0}}]}], ("2",)),
        ([{"result": [{"from_name": "sentiment", "type": "number", "value": {"number": 2.5}}]}], ("2.5",)),
        (
            [
                7,
                {"result": "x"},
                {
                    "result": [
                        3,
                        {"from_name": "sentiment", "value": None},
                        {"from_name": "sentiment", "value": {"choices": 1}},
                        {"from_name": "sentiment", "value": {"choices": [{}, None, []], "number": {}}},
                    ]
                },
            ],
            Reason.EMPTY,
        ),
    ],
)
def test_the_labels_of_an_exported_task(annotations: list[Any], expected: Any) -> None:
    assert decide(LabelReader("sentiment").answers(exported(*annotations)), several=False) == expected


def test_where_several_labels_are_allowed_each_needs_more_than_half_of_the_annotators() -> None:
    answers = LabelReader("c").answers(exported(*(annotation(each, control="c") for each in "aabc")))
    assert decide(answers, several=False) == ("a",)
    assert decide(answers, several=True) == Reason.DISAGREE


# exports as JSON


def test_an_export_gives_texts_and_labels_and_counts_the_rest_by_reason(tmp_path: Path) -> None:
    tasks = [
        exported(annotation("Positive")),
        exported(),
        exported(annotation("Negative")),
        exported(annotation("Negative", was_cancelled=True)),
        exported(annotation()),
        exported(annotation("Negative"), annotation("Positive")),
        exported(annotation("Negative"), review=" "),
        exported(annotation("Negative"), review=None),
        exported(),
    ]
    found = read(write(tmp_path / "export.json", tasks))
    assert pairs(found) == [("good", "Positive"), ("good", "Negative")]
    assert found.left_out.reasons == {
        Reason.UNANSWERED: 2,
        Reason.NO_TEXT: 2,
        Reason.SKIPPED: 1,
        Reason.EMPTY: 1,
        Reason.DISAGREE: 1,
    }
    assert (found.left_out.total, found.multi_label) == (7, False)
    assert str(found.left_out).startswith("2 without an annotation or label, 2 without a text, 1 skipped")


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    tasks = [exported(), exported(annotation("Positive"))]
    with open_labelled(LabelledSource(write(tmp_path / "export.json", tasks))) as rows:
        (example,) = rows
    assert (example.number, example.label, example.columns["stars"]) == (2, "Positive", 9)


def test_an_export_by_another_control_names_those_there_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "export.json",
        [exported(annotation("Drama", control="genre")), exported(annotation("a", control="tone"))],
    )
    with pytest.raises(
        BadInput,
        match='no task has a label of the control "sentiment"; the controls of its annotations: genre, tone',
    ):
        read(path)
    assert pairs(read(path, "genre")) == [("good", "Drama")]


def test_each_text_can_count_once(tmp_path: Path) -> None:
    tasks = [exported(annotation("Positive"), review=text) for text in ("a", "b", "a", "a", "c")]
    assert read(write(tmp_path / "export.json", tasks)).weights == [1 / 3, 1, 1 / 3, 1 / 3, 1]


# texts, as the server reads them


@pytest.mark.parametrize(
    ("config", "data", "text"),
    [
        (HYPERTEXT, {"html": "<!-- awful --><p>A <b>fine</b> film</p>"}, "\nA fine film\n"),
        (PARAGRAPHS, {"dialogue": [{"author": "A", "text": "Fine."}, {"text": "Yes."}]}, "Fine.\nYes."),
        (NESTED_FIELD, {"review": {"body": "Fine."}}, "Fine."),
        (SEVERAL_TEXTS, {"title": "Film", "body": "Fine."}, "Film: Fine."),
    ],
)
def test_with_the_labeling_config_a_text_is_what_the_server_reads(
    tmp_path: Path, config: str, data: dict[str, Any], text: str
) -> None:
    tasks = [exported(annotation("Positive"), number=i, **data) for i in range(3)]
    assert read_plan(config, ("Negative", "Positive"), {}).texts(data)[0] == text
    assert pairs(read(write(tmp_path / "export.json", tasks), config=config)) == [(text, "Positive")] * 3
    for name in ("short.json", "a.csv", "a.tsv"):
        rows = [annotated(i, sentiment="Positive", **data) for i in range(3)]
        assert pairs(read(write(tmp_path / name, rows), config=config)) == [(text, "Positive")] * 3


def test_a_page_needs_the_labeling_config(tmp_path: Path) -> None:
    task = exported(annotation("Positive"), review="<html><p>Fine</p></html>")
    with pytest.raises(BadInput, match='row 1: the column "review" holds a page .* with --label-config'):
        read(write(tmp_path / "export.json", [task]))
    row = {"review": "<p>Fine</p>", "sentiment": "Positive"}
    assert pairs(read(write(tmp_path / "table.csv", [row]))) == [("<p>Fine</p>", "Positive")]
    task = exported(annotation("Positive"), review="Fine<br />film <i>and</i> more.")
    assert read(write(tmp_path / "export.json", [task])).texts == ["Fine<br />film <i>and</i> more."]


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("talk", {"talk": [{"author": "A", "text": "Fine."}, {"text": "Yes."}]}, "Fine.\nYes."),
        ("review.body", {"review": {"body": "Fine."}}, "Fine."),
        ("a b", {"a b": "Fine."}, "Fine."),
        ("$title: $body", {"title": "Film", "body": "Fine."}, "Film: Fine."),
        ("lines", {"lines": ["Fine.", "Yes."]}, "Fine.\nYes."),
    ],
)
def test_without_a_labeling_config_a_text_is_named(
    tmp_path: Path, name: str, data: dict[str, Any], text: str
) -> None:
    path = write(tmp_path / "export.json", [exported(annotation("Positive"), **data)])
    assert read_labelled(LabelledSource(path, name)).texts == [text]


def test_a_text_that_is_none_is_an_error_that_names_the_labeling_config(tmp_path: Path) -> None:
    by_path = r"name the text in it by its path \(review\.…\), or "
    for value, words, path_too in (({"body": "x"}, "an object", by_path), ([{"says": "x"}], "a list", "")):
        path = write(tmp_path / "export.json", [exported(annotation("Positive"), review=value)])
        with pytest.raises(
            BadInput, match=f'"review" holds {words}, no text; {path_too}give .* --label-config'
        ):
            read(path)


# labels, as the server fills them


def test_nested_choices_are_labels_by_their_whole_path_and_are_written_as_paths(tmp_path: Path) -> None:
    tasks = [
        exported(annotation(path)) for path in (["Good", "Very"], ["Bad", "Very"], ["Good", "Very"], ["Good"])
    ]
    found = read(write(tmp_path / "export.json", tasks), config=NESTED_CHOICES)
    labels = [labels for (labels,) in found.labels]
    assert labels == ["Good/Very", "Bad/Very", "Good/Very", "Good"]
    (binding,) = read_plan(NESTED_CHOICES, sorted(set(labels)), {}).bindings
    assert binding.control.values == (("Bad", "Very"), ("Good",), ("Good", "Very"))
    several = NESTED_CHOICES.replace("<Choices", '<Choices choice="multiple"')
    task = exported(annotation(["Good"], ["Good", "Very"], ["Good", "A bit"], ["Bad", "Very"]))
    assert read(write(tmp_path / "export.json", [task]), config=several).labels == [
        ("Bad/Very", "Good/A bit", "Good/Very")
    ]
    filled = binding.control.fill(np.eye(3, dtype=np.float32), 0.5)
    assert filled[2] == {"choices": [["Good", "Very"]]}
    # the editor shows a choice that has others below it only with all of them
    assert filled[1] == {"choices": [["Good"], ["Good", "Very"], ["Good", "A bit"]]}


@pytest.mark.parametrize("name", ["short.json", "a.csv", "a.tsv"])
def test_nested_choices_in_the_short_exports(tmp_path: Path, name: str) -> None:
    cells = [["Good", "Very"], {"choices": [["Bad"], ["Bad", "Very"]]}]
    path = write(tmp_path / name, [annotated(i, review="x", sentiment=cell) for i, cell in enumerate(cells)])
    for config in (NESTED_CHOICES, None):
        assert read(path, config=config).labels == [("Good/Very",), ("Bad/Very",)]
    flat = MULTIPLE.replace('choice="multiple"', "").replace("Positive", "Good").replace("Negative", "Very")
    assert read(path, config=flat).labels[0] == ("Good", "Very")


def test_leaves_of_one_name_stay_two_labels(tmp_path: Path) -> None:
    paths = (["Film", "Bad"], ["Book", "Bad"], ["Film", "fine"])
    tasks = [exported(annotation(path, kind="taxonomy")) for path in paths]
    rows = [annotated(i, review="good", sentiment=[{"taxonomy": [path]}]) for i, path in enumerate(paths)]
    for config in (TAXONOMY, None):
        for path in (
            write(tmp_path / "export.json", tasks),
            write(tmp_path / "short.json", rows),
            write(tmp_path / "a.csv", rows),
        ):
            found = read(path, config=config)
            assert found.labels == [("Film/Bad",), ("Book/Bad",), ("Film/fine",)]
    (binding,) = read_plan(TAXONOMY, ("Book/Bad", "Film/Bad", "Film/fine"), {}).bindings
    assert binding.control.values == (("Book", "Bad"), ("Film", "Bad"), ("Film", "fine"))


def test_a_label_is_the_configs_whatever_its_case_or_name(tmp_path: Path) -> None:
    config = TAXONOMY.replace("<Taxonomy", '<Text name="u" value="$x"/><Taxonomy')
    rows = [{"review": "x", "sentiment": name} for name in ("film/bad", "Film/Good", "FINE", "Book")]
    found = read(write(tmp_path / "a.json", rows), config=config)
    assert found.labels == [("Film/Bad",), ("Film/fine",), ("Film/fine",), ("Book",)]


def test_a_label_that_the_config_does_not_have_is_left_out(tmp_path: Path) -> None:
    tasks = [exported(annotation(each)) for each in ("Positive", "Unsure", "positive")]
    config = NESTED_FIELD.replace("$review.body", "$review")
    found = read(write(tmp_path / "export.json", tasks), config=config)
    assert (found.labels, found.left_out.reasons) == ([("Positive",)] * 2, {Reason.UNKNOWN: 1})


def test_several_choices_in_every_format(tmp_path: Path) -> None:
    answers = (["Positive", "Negative"], ["Negative"], ["Negative", "Positive"])
    cells = [{"choices": answer} if len(answer) > 1 else answer[0] for answer in answers]
    tasks = [exported(annotation(*answer)) for answer in answers]
    expected = [("Negative", "Positive"), ("Negative",), ("Negative", "Positive")]
    for config in (MULTIPLE, None):
        for name, rows in {
            "export.json": tasks,
            "short.json": [annotated(i, review="x", sentiment=cell) for i, cell in enumerate(cells)],
            "lists.json": [{"review": "x", "sentiment": answer} for answer in answers],
            "a.csv": [{"review": "x", "sentiment": cell} for cell in cells],
            "a.tsv": [annotated(i, review="x", sentiment=cell) for i, cell in enumerate(cells)],
        }.items():
            found = read(write(tmp_path / name, rows), config=config)
            assert (found.labels, found.multi_label) == (expected, True), name


def test_a_config_for_several_labels_says_so_where_no_text_has_them(tmp_path: Path) -> None:
    path = write(tmp_path / "export.json", [exported(annotation("Positive"))])
    assert read(path, config=MULTIPLE).multi_label
    assert not read(path).multi_label


def test_a_control_is_chosen_by_name_where_there_are_several() -> None:
    config = f"""<View><Text name="a" value="$a"/><HyperText name="b" value="$b"/>
    <Choices name="x" toName="a">{CHOICES}</Choices><Choices name="y" toName="b">{CHOICES}</Choices></View>"""
    assert read_question(config, "y").field.value == "$b"
    with pytest.raises(BadLabelConfig, match='several controls: "x", "y". Name one with --label'):
        read_question(config, "z")
    assert read_question(HYPERTEXT, "column").answers.name == "sentiment"


def test_a_table_may_name_the_labels_otherwise_than_the_config(tmp_path: Path) -> None:
    row = {"html": "<p>Fine", "mood": "positive"}
    assert pairs(read(write(tmp_path / "a.csv", [row]), "mood", HYPERTEXT)) == [("\nFine", "Positive")]
    path = write(tmp_path / "export.json", [exported(annotation("Positive"), html="x")])
    with pytest.raises(BadInput, match='the labeling config has no control "mood"; it has "sentiment"'):
        read(path, "mood", HYPERTEXT)


# tables


def test_rows_of_one_task_are_answers_to_it(tmp_path: Path) -> None:
    rows = [
        *(annotated(1, review="a", sentiment=each) for each in ("Positive", "Negative", "Negative")),
        *(annotated(2, review="b", sentiment=each) for each in ("Positive", "Negative")),
        annotated(3, review="c"),
        # a task without an annotation keeps a column of its own that is named like the control
        {"id": 4, "annotation_id": None, "annotator": None, "review": "d", "sentiment": "Positive"},
        annotated(5, review="e", sentiment="Positive"),
    ]
    for name in ("short.json", "a.csv", "a.tsv"):
        if name != "short.json":
            rows[6] |= {"annotation_id": "", "annotator": ""}
        found = read(write(tmp_path / name, rows))
        assert pairs(found) == [("a", "Negative"), ("e", "Positive")]
        assert found.left_out.reasons == {Reason.DISAGREE: 1, Reason.EMPTY: 1, Reason.UNANSWERED: 1}


def test_a_text_column_named_like_the_control(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [annotated(1, _data_review="Fine.", review="Positive")])
    assert pairs(read_labelled_by(path, "review", "review")) == [("Fine.", "Positive")]


def read_labelled_by(path: Path, text: str, label: str) -> LabelledTexts:
    return read_labelled(LabelledSource(path, text, label))


def test_labels_of_any_plain_type(tmp_path: Path) -> None:
    values = (" Positive ", True, False, 4, 0, 'a, "b" = 😀', "[sic]", "{x}", "[1]")
    rows = [{"review": "a", "sentiment": value} for value in values]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [label for (label,) in read(tmp_path / "in.jsonl").labels] == [
        str(each).strip() for each in values
    ]


def test_empty_rows_of_a_table_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('review,sentiment\na,b\n,\n"   ",\nc,\n,b\n  ,b\n')
    found = read(tmp_path / "in.csv")
    assert pairs(found) == [("a", "b")]
    assert found.left_out.reasons == {Reason.UNANSWERED: 3, Reason.NO_TEXT: 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "review,other\na,b\n",
            'no row has the column "sentiment"; the columns of the first row: review, oth',
        ),
        (
            "text,sentiment\na,b\n",
            'no labelled row has a text in the column "review"; the columns of the first row: text, sentim',
        ),
        ("review,sentiment\na,\nc,\n", "no row has a label: 2 without an annotation or label"),
        ("review,sentiment\n", "no rows"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "in.csv")


# files of a real Label Studio


@pytest.mark.parametrize(
    ("name", "config", "text", "labels", "left_out"),
    [
        ("skew.json", HYPERTEXT, "wonderful, moving film. I loved every minute of it. 0", (10, 10), {}),
        ("real_nested.json", None, "A wonderful, moving film. I loved it. 0", (3, 3), {}),
        ("real_dlg.json", PARAGRAPHS, "A wonderful, moving film. I loved it.\nok 0", (3, 3), {}),
        ("real_dlg.json --text dialogue", None, "moving film. I loved it.\nok 0", (3, 3), {}),
        ("real_min.json", None, "A wonderful, moving film. I loved it. 0", (3, 2), {Reason.EMPTY: 1}),
        ("real.tsv", None, "A wonderful, moving film. I loved it. 0", (3, 2), {Reason.EMPTY: 1}),
        ("semi.csv", None, "A wonderful film – I loved it; café scenes, naïve humour.", (12, 12), {}),
        ("tab.csv", None, "A wonderful film – I loved it; café scenes, naïve humour.", (12, 12), {}),
        ("excel_unicode_text.csv", None, "A wonderful film – I loved it; café scenes", (12, 12), {}),
        ("two.json", SEVERAL_TEXTS, "Film: A wonderful, moving film. I loved it. 0", (6, 6), {}),
        ("two.json --text $title: $body", None, "Film: A wonderful, moving film. I", (6, 6), {}),
        ("nested.json", NESTED_FIELD, "A wonderful, moving film. I loved it. 0", (6, 6), {}),
        ("nested.json --text review.body", None, "A wonderful, moving film. I", (6, 6), {}),
    ],
)
def test_exports_of_a_real_label_studio(
    shared: Path,
    name: str,
    config: str | None,
    text: str,
    labels: tuple[int, int],
    left_out: dict[Reason, int],
) -> None:
    name, _, column = name.partition(" --text ")
    path = shared / "field" / name
    found = read_labelled(LabelledSource(path, column or None, label_config=config))
    assert text in found.texts[0]
    assert "terrible" not in found.texts[0]
    counts = Counter(label.capitalize() for (label,) in found.labels)
    assert counts == {"Positive": labels[0], "Negative": labels[1]}
    assert found.left_out.reasons == left_out


def test_an_empty_cell_of_a_column_of_numbers_is_no_label(tmp_path: Path) -> None:
    table = pa.table({"body": ["a", "b", "c"], "stars": [1.0, float("nan"), 2.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    found = read_labelled(LabelledSource(tmp_path / "in.parquet", "body", "stars"))
    assert found.labels == [("1",), ("2",)]
    assert str(found.left_out) == "1 without an annotation or label"
