"""`prelabel predict`: the import file, undefault rows, and killed runs."""

import csv
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.cnn import Network
from server.bundle import Bundle
from server.engines.base import Engine
from server.engines.factory import open_engine
from server.errors import BadInput
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.models.tokenizer import Tokenizer
from server.offline.classifier import Classifier, open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.scoring import Scoring
from server.settings import load_settings
from tests.conftest import ROOT, random_texts

PLAN = read_plan(TUTORIAL_CONFIG, ("Negative", "Positive"), {})


@pytest.fixture
def labeler(bundle: Bundle, onnx: Engine) -> Iterator[Labeler]:
    with Classifier(bundle, onnx, threads=2) as classifier:
        yield Labeler(classifier, PLAN)


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "review"])
        writer.writerows(enumerate(texts))
    return path


def test_every_row_becomes_a_task_with_its_columns_and_its_prediction(
    tmp_path: Path, labeler: Labeler, network: Network, bundle: Bundle
) -> None:
    texts = random_texts(300)
    done = predict_file(write_csv(tmp_path / "in.csv", texts), tmp_path / "out.json", labeler)
    tasks = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert (done.rows, done.without_text) == (300, 0)
    assert [task["data"] for task in tasks] == [
        {"uid": str(i), "review": text} for i, text in enumerate(texts)
    ]
    expected = network.cnn.predict([Tokenizer.of(bundle).encode(text).tolist() for text in texts]).numpy()
    for task, probabilities in zip(tasks, expected, strict=True):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == bundle.version
        assert abs(prediction["score"] - probabilities.max()) <= 1e-6
        (region,) = prediction["result"]
        assert region["value"] == {"choices": [bundle.labels[int(probabilities.argmax())]]}
        assert (region["from_name"], region["to_name"], region["type"]) == ("sentiment", "text", "choices")


def test_a_label_map_for_other_labels_is_a_warning(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    open_classifier(load_settings(bundle=bundle.path, device="cpu", label_map="Postive=good"))
    assert "Postive (did you mean Positive?)" in caplog.text


def test_another_score_has_its_own_version(tmp_path: Path, labeler: Labeler, bundle: Bundle) -> None:
    source = write_csv(tmp_path / "in.csv", ["good film"])
    predict_file(source, tmp_path / "default.json", labeler)
    predict_file(source, tmp_path / "margin.json", replace(labeler, scoring=Scoring("margin")))
    outputs = (tmp_path / "default.json", tmp_path / "margin.json")
    (default,), (margin,) = (json.loads(path.read_text())[0]["predictions"] for path in outputs)
    assert (default["model_version"], margin["model_version"]) == (bundle.version, f"{bundle.version}-margin")
    assert margin["score"] == pytest.approx(2 * default["score"] - 1)


def test_predictions_equal_the_reference_answers(
    tmp_path: Path, golden: list[dict[str, Any]], oracle_bundle: Bundle
) -> None:
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"review": entry["text"]}) + "\n" for entry in golden)
    )
    with Classifier(oracle_bundle, open_engine(oracle_bundle, device="cpu"), threads=2) as classifier:
        predict_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Labeler(classifier, PLAN))
    lines = (tmp_path / "out.jsonl").read_text("utf-8").removesuffix("\n").split("\n")
    for line, entry in zip(lines, golden, strict=True):
        (prediction,) = json.loads(line)["predictions"]
        assert abs(prediction["score"] - max(entry["probabilities"])) <= 1e-5
        assert prediction["result"][0]["value"]["choices"] == [oracle_bundle.labels[entry["predicted_class"]]]


def test_rows_without_text_get_an_empty_prediction(tmp_path: Path, labeler: Labeler) -> None:
    rows: list[Any] = [
        {"review": "good"},
        {"review": None},
        {"other": 1},
        7,
        {"review": 10},
        {"data": {"review": ["good", "film"]}},
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    done = predict_file(tmp_path / "in.json", tmp_path / "out.json", labeler)
    tasks = json.loads((tmp_path / "out.json").read_text())
    assert [bool(task["predictions"][0]["result"]) for task in tasks] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    assert (done.rows, done.without_text) == (6, 3)


def test_columns_that_are_hard_to_write_are_kept(tmp_path: Path, labeler: Labeler) -> None:
    rows = [{"review": "good \ud800", "big": 10**30}, {"review": "bad", "small": 1e-300}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict_file(tmp_path / "in.jsonl", tmp_path / "out.json", labeler)
    assert [task["data"] for task in json.loads((tmp_path / "out.json").read_text())] == rows


def test_the_input_is_never_replaced(tmp_path: Path, labeler: Labeler) -> None:
    (tmp_path / "in.json").write_text('[{"review": "good"}]')
    with pytest.raises(BadInput, match="would replace the input"):
        predict_file(tmp_path / "in.json", tmp_path / "in.json", labeler)


def test_an_empty_file_gives_an_empty_list(tmp_path: Path, labeler: Labeler) -> None:
    predict_file(write_csv(tmp_path / "in.csv", []), tmp_path / "out.json", labeler)
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_a_missing_column_is_an_error_that_names_the_columns(tmp_path: Path, labeler: Labeler) -> None:
    (tmp_path / "in.csv").write_text("uid,text\n1,good\n")
    with pytest.raises(BadInput, match='no column "review".* the columns are: uid, text'):
        predict_file(tmp_path / "in.csv", tmp_path / "out.json", labeler)
    assert not (tmp_path / "out.json").exists()


def test_an_output_of_another_format_and_one_that_cannot_be_written_are_refused(
    tmp_path: Path, labeler: Labeler
) -> None:
    source = write_csv(tmp_path / "in.csv", ["good"])
    with pytest.raises(BadInput, match="must end in .json"):
        predict_file(source, tmp_path / "out.csv", labeler)
    with pytest.raises(BadInput, match="there is no folder"):
        predict_file(source, tmp_path / "none" / "out.json", labeler)


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from server.bundle import read_bundle
from server.engines.factory import open_engine
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import Classifier, open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file

source, out, folder = map(Path, sys.argv[1:])
bundle = read_bundle(folder)
plan = read_plan(TUTORIAL_CONFIG, bundle.labels, {})

def kill_half_way(rows, read):
    if rows >= 4096:
        with out.with_name(out.name + ".part").open("ab") as file:
            file.write(b"half a chunk after the last progress note")
        os.kill(os.getpid(), signal.SIGKILL)

with Classifier(bundle, open_engine(bundle, device="cpu"), threads=2) as classifier:
    predict_file(source, out, Labeler(classifier, plan), on_progress=kill_half_way)
"""


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, labeler: Labeler, bundle: Bundle, suffix: str
) -> None:
    random = np.random.default_rng(1)
    texts = [text[: random.integers(0, 200)] for text in random_texts(500)] * 10
    source = write_csv(tmp_path / "in.csv", texts)
    whole, resumed = tmp_path / f"whole{suffix}", tmp_path / f"resumed{suffix}"
    predict_file(source, whole, labeler)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, source, resumed, bundle.path], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done_after_kill: list[int] = []
    predict_file(
        source, resumed, labeler, resume=True, on_progress=lambda rows, read: done_after_kill.append(rows)
    )
    assert done_after_kill == [len(texts)]  # two chunks were kept, the third was done
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_full_disk_is_a_one_sentence_error_and_can_be_resumed(tmp_path: Path, bundle: Bundle) -> None:
    source = write_csv(tmp_path / "in.csv", random_texts(500) * 10)
    command = [
        sys.executable,
        "prelabel.py",
        "predict",
        str(source),
        str(tmp_path / "out.json"),
        "--bundle",
        str(bundle.path),
        "--resume",
    ]

    def limit_file_size(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    full = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: limit_file_size(4_000_000),
    )
    assert (full.returncode, "Traceback" in full.stderr) == (1, False)
    assert "cannot be written" in full.stderr
    assert not (tmp_path / "out.json").exists()
    whole = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert len(json.loads((tmp_path / "out.json").read_bytes())) == 5000


def test_resuming_with_another_input_is_refused_and_starting_again_is_not(
    tmp_path: Path, labeler: Labeler
) -> None:
    source = write_csv(tmp_path / "in.csv", ["good", "bad"])
    (tmp_path / "out.json.part").write_bytes(b"[\n")
    (tmp_path / "out.json.part.progress").write_text('{"key": "another", "rows": 1, "written": 2}')
    with pytest.raises(BadInput, match="without --resume"):
        predict_file(source, tmp_path / "out.json", labeler, resume=True)
    predict_file(source, tmp_path / "out.json", labeler)
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.json"}
