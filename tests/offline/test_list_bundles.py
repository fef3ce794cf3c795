"""The list of bundles: what is wrong with each, and which a server serves."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from server.bundle import Bundle
from server.errors import BadInput
from server.offline.list_bundles import _accuracy, find_bundles, served_versions, show
from tests.serving import running


def test_bundles_are_listed_with_their_problems_and_those_that_are_served(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name in ("good", "broken"):
        shutil.copytree(bundle.path, tmp_path / name)
    (tmp_path / "broken" / "vocab.txt").write_text("other\n")
    (tmp_path / "no bundle").mkdir()
    broken, good = find_bundles(tmp_path)
    assert (broken.path.name, broken.bundle, good.bundle and good.bundle.version) == (
        "broken",
        None,
        bundle.version,
    )
    assert "vocab.txt is altered" in broken.problem
    assert good.size > 1000
    with running(bundle) as client:
        served = served_versions(f"{client.base_url}/")
    assert served == {bundle.version}
    console = Console(width=300, record=True, quiet=False, file=(tmp_path / "shown.txt").open("w"))
    show([broken, good], served, console)
    console.file.close()
    lines = (tmp_path / "shown.txt").read_text().splitlines()
    assert any(bundle.version in line and "✓" in line and "Negative, Positive" in line for line in lines)
    assert any("vocab.txt is altered" in line and "✓" not in line for line in lines)


def test_names_and_versions_are_whole_on_a_narrow_terminal(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "good")
    console = Console(width=80, file=io.StringIO())
    show(find_bundles(tmp_path), None, console)
    assert isinstance(console.file, io.StringIO)
    assert any("good" in line and bundle.version in line for line in console.file.getvalue().splitlines())


def test_a_folder_without_bundles_and_a_missing_server_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no bundle in this folder"):
        find_bundles(tmp_path)
    with pytest.raises(BadInput, match="no response"):
        served_versions("http://127.0.0.1:9")


def test_the_accuracy_that_export_measured_for_a_lower_precision_is_listed() -> None:
    cost = {"precision": "int8", "accuracy_float32": 0.8855, "accuracy_int8": 0.8862}
    assert _accuracy({"quantization": cost}) == "about 0.89"
    assert _accuracy({}) == "–"
