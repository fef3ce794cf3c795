"""`prelabel predict --on-ray` over a folder: the same files as without Ray, also if a node fails."""

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.on_ray.parts import PART_BYTES
from server.settings import load_settings
from tests.conftest import ROOT, random_texts
from tests.launch.test_signals import until
from tests.on_ray.conftest import TwoNodes

pytestmark = pytest.mark.ray

FILES = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JSONL and Parquet, in folders of folders."""
    texts = random_texts(500)
    for number in range(FILES):
        rows = [
            {"id": f"{number}-{index}", "review": f"{number} {text}"} for index, text in enumerate(texts * 6)
        ]
        path = tmp_path / "in" / str(number % 3) / f"reviews-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            parquet.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return tmp_path / "in"


def outputs(out: Path, suffix: str = ".jsonl") -> dict[str, Path]:
    return {
        path.relative_to(out).as_posix(): path
        for path in out.rglob(f"*{suffix}")
        if ".prelabel" not in path.parts
    }


def expected(folder: Path, bundle: Bundle, whole: Path) -> dict[str, bytes]:
    """What `prelabel predict` writes, file by file."""
    found = {}
    with open_classifier(load_settings(bundle=bundle.path, device="cpu", engine_threads=1)) as classifier:
        labeler = Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            predict_file(source, whole, labeler)
            found[source.relative_to(folder).with_suffix(".jsonl").as_posix()] = whole.read_bytes()
    return found


def predict(
    folder: Path, out: Path, bundle: Bundle, cluster: TwoNodes, *options: str
) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "prelabel.py",
        "predict",
        str(folder),
        str(out),
        "--on-ray",
        "--ray-address",
        cluster.address,
        "--bundle",
        str(bundle.path),
    ]
    return subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=150
    )


def test_a_failed_node_changes_nothing_in_the_output(
    two_nodes: TwoNodes, folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(predict, folder, out, bundle, two_nodes)
        # both nodes have a process: with one CPU each, two files at a time need both
        until(lambda: len(list((out / ".prelabel").glob("*.part"))) == 2 and len(outputs(out)) >= 2)
        two_nodes.kill_second()
        missing = FILES - len(outputs(out))
        done = running.result()
    assert done.returncode == 0, done.stderr
    assert missing > 2
    assert {name: path.read_bytes() for name, path in outputs(out).items()} == expected(
        folder, bundle, tmp_path / "whole.jsonl"
    )
    assert not list(out.rglob("*.part"))


def test_a_large_file_in_parts_the_error_of_a_corrupt_one_and_a_second_run_for_missing_parts(
    two_nodes: TwoNodes, bundle: Bundle, tmp_path: Path
) -> None:
    folder, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole.jsonl"
    folder.mkdir()
    line = json.dumps({"review": " ".join(random_texts(20)), "é": "ü"}, ensure_ascii=False) + "\n"
    (folder / "large.jsonl").write_text(line * (PART_BYTES // len(line.encode()) + 100), "utf-8")
    (folder / "wrong.jsonl").write_text('{"review": "good"}\n' + "not JSON\n")
    refused = predict(folder, out, bundle, two_nodes)
    assert (
        refused.returncode,
        f"1 of 3 parts failed, the others are done: {folder}/wrong.jsonl: line 2 is not JSON"
        in refused.stderr,
    ) == (1, True)
    names = ["large-00001-of-00002.jsonl", "large-00002-of-00002.jsonl"]
    assert sorted(outputs(out)) == names
    before = {name: path.stat().st_mtime_ns for name, path in outputs(out).items()}
    (folder / "wrong.jsonl").write_text('{"review": "good"}\n')
    done = predict(folder, out, bundle, two_nodes)
    assert (
        done.returncode,
        "in 3 files" in done.stderr,
        "2 of them were already complete" in done.stderr,
    ) == (0, True, True)
    assert sorted(outputs(out)) == [*names, "wrong.jsonl"]
    assert {name: outputs(out)[name].stat().st_mtime_ns for name in names} == before
    with open_classifier(load_settings(bundle=bundle.path, device="cpu")) as classifier:
        predict_file(
            folder / "large.jsonl", whole, Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))
        )
    assert b"".join(outputs(out)[name].read_bytes() for name in names) == whole.read_bytes()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in outputs(out).values())
    table = predict(
        folder / "wrong.jsonl",
        tmp_path / "table",
        bundle,
        two_nodes,
        "--format",
        "parquet",
        "--score",
        "margin",
    )
    assert table.returncode == 0, table.stderr
    (row,) = parquet.read_table(tmp_path / "table" / "wrong.parquet").to_pylist()
    assert (json.loads(row["data"]), row["model_version"]) == ({"review": "good"}, f"{bundle.version}-margin")
