"""What `prelabel train` makes is used by `prelabel predict` as it is: its labeling config, and `--text`."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.test_command_line import prelabel

LABELS = ('a,b "c"', "=<ü😀>")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts in `texts.csv`, and the bundle `my bundles/mine` that was trained on them."""
    folder = tmp_path_factory.mktemp("use")
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{('red', 'blue')[i % 2]} thing {i}", LABELS[i % 2]) for i in range(24)]
        csv.writer(file).writerows([("the body", "kind"), *rows])
    out = folder / "my bundles" / "mine"
    done = prelabel(
        *("train", "--train", folder / "texts.csv", "--text", "the body", "--label", "kind"),
        *("--encoder", "ngrams", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    assert f" serve --bundle '{out}'" in done.stderr
    assert "connect --label-studio http://localhost:8080 --project NUMBER" in done.stderr
    assert f"'{out / 'labeling_config.xml'}'" in done.stderr
    return folder


def test_the_bundles_own_labeling_config_and_a_named_column(folder: Path) -> None:
    bundle = folder / "my bundles" / "mine"
    done = prelabel(
        "predict", folder / "texts.csv", folder / "out.json", "--bundle", bundle, "--text", "the body"
    )
    assert done.returncode == 0, done.stderr
    tasks = json.loads((folder / "out.json").read_text("utf-8"))
    (region,) = tasks[0]["predictions"][0]["result"]
    assert region["from_name"] == "label"
    assert region["value"]["choices"] == [LABELS[0]]
    assert all(
        task["predictions"][0]["result"][0]["value"]["choices"] == [task["data"]["kind"]] for task in tasks
    )


def test_text_and_a_given_labeling_config_contradict_each_other(folder: Path) -> None:
    bundle = folder / "my bundles" / "mine"
    done = prelabel(
        *("predict", folder / "texts.csv", folder / "out.json", "--bundle", bundle, "--text", "the body"),
        *("--label-config", bundle / "labeling_config.xml"),
    )
    assert done.returncode == 1
    assert "--text: the labeling config says which text is read" in done.stderr
