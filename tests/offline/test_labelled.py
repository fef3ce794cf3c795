"""Labelled texts from a table or a Label Studio JSON export, and one-sentence errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.errors import BadInput
from server.label_studio.exported_labels import label_of
from server.offline.labelled import open_labelled


def annotation(*labels: str, control: str = "sentiment", **more: Any) -> dict[str, Any]:
    """As Label Studio exports it: one region with the choices of one control."""
    region = {
        "id": "x",
        "type": "choices",
        "from_name": control,
        "to_name": "text",
        "origin": "manual",
        "value": {"choices": list(labels)},
    }
    return {
        "id": 1,
        "completed_by": 1,
        "result": [region] if labels else [],
        "was_cancelled": False,
        "ground_truth": False,
        **more,
    }


def exported(*annotations: Any, number: int = 7) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"review": "good", "stars": 9},
        "annotations": list(annotations),
        "predictions": [],
        "drafts": [],
    }


def read(path: Path, label: str = "sentiment") -> list[tuple[str, str | None]]:
    with open_labelled(path, "review", label) as (examples, _):
        return [(example.text, example.label) for example in examples]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ([annotation("Positive")], "Positive"),
        ([], None),
        ([annotation()], None),
        ([annotation("Positive", was_cancelled=True)], None),
        ([annotation("Positive"), annotation("Negative"), annotation("Negative")], "Negative"),
        ([annotation("Positive"), annotation("Negative")], None),
        (
            [annotation("Positive"), annotation("Negative"), annotation("Negative", ground_truth=True)],
            "Negative",
        ),
        (
            [annotation("Negative"), annotation("Negative"), annotation("Positive", ground_truth=True)],
            "Positive",
        ),
        ([annotation("Drama", control="genre")], None),
        ([annotation("Drama", control="genre"), annotation("Positive")], "Positive"),
        ([{"result": [{"from_name": "sentiment", "type": "rating", "value": {"rating": 4}}]}], "4"),
        (
            [
                {
                    "result": [
                        {
                            "from_name": "sentiment",
                            "type": "taxonomy",
                            "value": {"taxonomy": [["Film", "Drama"]]},
                        }
                    ]
                }
            ],
            "Drama",
        ),
        (
            [
                7,
                {"result": "x"},
                {
                    "result": [
                        3,
                        {"from_name": "sentiment", "value": None},
                        {"from_name": "sentiment", "value": {"choices": 1}},
                    ]
                },
            ],
            None,
        ),
        (
            [
                {
                    "result": [
                        {
                            "from_name": "sentiment",
                            "value": {"choices": [["x"], {}, None], "rating": ["x"], "number": {}},
                        }
                    ]
                }
            ],
            None,
        ),
    ],
)
def test_the_label_of_an_exported_task(annotations: list[Any], expected: str | None) -> None:
    assert label_of(exported(*annotations), "sentiment") == expected


def test_several_labels_in_one_annotation_cannot_be_learned(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps([exported(annotation("Positive", "Negative"))]))
    with pytest.raises(BadInput, match='export.json: task 7: "sentiment" holds several labels'):
        read(tmp_path / "export.json")


def test_an_export_gives_texts_and_labels_and_counts_the_rest(tmp_path: Path) -> None:
    tasks = [exported(annotation("Positive")), exported(), exported(annotation("Negative"))]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert read(tmp_path / "export.json") == [("good", "Positive"), ("good", None), ("good", "Negative")]


def test_an_export_by_another_control_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(
        json.dumps(
            [exported(annotation("Drama", control="genre")), exported(annotation("a", control="tone"))]
        )
    )
    with pytest.raises(
        BadInput,
        match='no task has a label of the control "sentiment"; the controls of its annotations: genre, tone',
    ):
        read(tmp_path / "export.json")
    assert read(tmp_path / "export.json", "genre") == [("good", "Drama"), ("good", None)]


def test_a_task_without_a_label_needs_no_text(tmp_path: Path) -> None:
    empty = exported() | {"data": {"review": None}}
    (tmp_path / "export.json").write_text(json.dumps([empty, exported(annotation("Positive"))]))
    assert read(tmp_path / "export.json") == [("", None), ("good", "Positive")]
    (tmp_path / "export.json").write_text(json.dumps([empty | {"annotations": [annotation("Positive")]}]))
    with pytest.raises(BadInput, match='row 1: the column "review" is empty'):
        read(tmp_path / "export.json")


def test_labels_of_any_plain_type(tmp_path: Path) -> None:
    rows = [{"review": "a", "sentiment": value} for value in (" Positive ", True, False, 4, 0)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [label for _, label in read(tmp_path / "in.jsonl")] == ["Positive", "True", "False", "4", "0"]


def test_label_studios_short_export_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "min.json").write_text(
        json.dumps([{"id": 1, "review": "good", "sentiment": "Positive", "annotator": 1}])
    )
    assert read(tmp_path / "min.json") == [("good", "Positive")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("review,other\na,b\n", 'row 1 has no column "sentiment"; its columns: review, other'),
        ("text,sentiment\na,b\n", 'row 1 has no column "review"; its columns: text, sentiment'),
        ("review,sentiment\na,b\nc,\n", 'row 2: the column "sentiment" is empty'),
        ("review,sentiment\n", "no rows"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "in.csv")
