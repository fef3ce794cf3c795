"""The command line as a process: what it writes, prints and returns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from export.cnn import Network
from prelabel import main
from server.bundle import Bundle, read_bundle
from tests.conftest import ROOT, WORDS


def prelabel(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "prelabel.py", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_export_then_predict(network: Network, bundle: Bundle, tmp_path: Path) -> None:
    torch.save(network.cnn.state_dict(), tmp_path / "cnn.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", "utf-8")
    options = [
        "export",
        "--checkpoint",
        tmp_path / "cnn.pt",
        "--vocab",
        tmp_path / "vocab.txt",
        "--out",
        tmp_path / "tiny",
    ]
    exported = prelabel(*options)
    assert exported.returncode == 0, exported.stderr
    assert "torchscript" in exported.stderr
    assert "onnx" in exported.stderr
    assert read_bundle(tmp_path / "tiny").version == bundle.version
    again = prelabel(*options)
    assert (again.returncode, "--force" in again.stderr) == (1, True)

    (tmp_path / "in.csv").write_text("review,stars\ngood film,5\n,1\n")
    predicted = prelabel("predict", tmp_path / "in.csv", tmp_path / "out.json", "--bundle", tmp_path / "tiny")
    assert predicted.returncode == 0, predicted.stderr
    assert "2 tasks" in predicted.stderr
    assert [task["data"]["stars"] for task in json.loads((tmp_path / "out.json").read_text())] == ["5", "1"]


def test_evaluate_prints_metrics_and_draws_them(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("body,tone,kind\ngood film,positive,a\nbad film,negative,b\n")
    done = prelabel(
        "evaluate",
        tmp_path / "in.csv",
        "--bundle",
        bundle.path,
        "--text",
        "body",
        "--label",
        "tone",
        "--by",
        "kind",
        "--plots",
        tmp_path / "plots",
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert bundle.version in done.stderr
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "reliability.png",
        "accuracy-by-length.png",
        "accuracy-by-group.png",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["IN", "none/out.json"], "there is no folder none; make it with: mkdir -p none"),
        (["IN", "out.json", "--label-config", "none.xml"], "--label-config: none.xml: cannot be read"),
        (["IN", "out.json", "--label-config", "IN"], "in.csv: The labeling config cannot be read"),
        (
            ["IN", "out.json", "--bundle", "none"],
            "none: there is no such bundle folder; name one with --bundle",
        ),
    ],
    ids=["folder", "config", "no config", "bundle"],
)
def test_an_error_of_predict_names_the_file_and_the_remedy(
    arguments: list[str],
    said: str,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("review\ngood film\n")
    words = [str(source) if word == "IN" else word for word in arguments]
    monkeypatch.setenv("PRELABEL_BUNDLE", str(bundle.path))
    monkeypatch.setattr("sys.argv", ["prelabel", "predict", *words])
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err


def is_one_sentence(status: int, shown: str) -> bool:
    return status == 1 and shown.splitlines()[-1].startswith("Error: ") and "Traceback" not in shown


def test_an_error_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    refused = prelabel("serve", "--bundle", tmp_path)
    assert is_one_sentence(refused.returncode, refused.stderr)


def test_a_misspelt_variable_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRELABEL_BUNDEL", "artifacts/mine")
    monkeypatch.setattr("sys.argv", ["prelabel", "predict", "none.csv", "out.json"])
    with pytest.raises(SystemExit):
        main()
    assert "PRELABEL_BUNDEL (did you mean PRELABEL_BUNDLE?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "70000"],
        ["predict", "none.csv", "out.json"],
        ["evaluate", "none.csv"],
        ["export", "--checkpoint", "none.pt", "--vocab", "x", "--out", "x"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_so_is_an_error_of_each_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, to save the imports of another."""
    monkeypatch.setattr("sys.argv", ["prelabel", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert isinstance(left.value.code, int)
    assert is_one_sentence(left.value.code, capsys.readouterr().err)
