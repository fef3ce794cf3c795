"""The code for Ray that does not need Ray: options, parts, outputs, and a replica."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from server.app import build_app
from server.bundle import Bundle
from server.engines.base import Engine
from server.errors import BadBundle, BadInput, BadSetting, EngineFailed
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
from server.offline.classifier import Classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import Progress, write_tasks
from server.offline.records import open_records
from server.on_ray.options import (
    Replicas,
    Resources,
    check_installed,
    check_none_given,
    read_address,
    read_replicas,
    read_suffix,
    resources_for,
    settings_for_node,
)
from server.on_ray.outputs import open_output
from server.on_ray.parts import OutputTarget, Part, find_parts
from server.on_ray.replica import Replica, check_versions, drop_duplicate_request_id
from server.on_ray.signals import Signals
from server.settings import load_settings
from tests.cli.test_command_line import prelabel
from tests.conftest import random_texts


def test_replicas_are_a_number_or_a_range() -> None:
    assert (read_replicas("2"), read_replicas(" 1-8 ")) == (Replicas(2, 2), Replicas(1, 8))
    for wrong in ("", "0", "8-1", "a", "-1", "1-", "9999", "1-9999999"):
        with pytest.raises(BadSetting, match="--replicas"):
            read_replicas(wrong)


def test_the_address_is_the_options_then_rays_then_local() -> None:
    assert read_address("auto", {"RAY_ADDRESS": "a:1"}) == "auto"
    assert read_address(None, {"RAY_ADDRESS": "a:1"}) == "a:1"
    assert read_address(None, {}) == "local"
    with pytest.raises(BadSetting, match="on one of its nodes"):
        read_address("ray://a:1", {})


def test_a_replica_has_a_gpu_for_cuda_and_no_more_threads_than_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, auto = load_settings(device="cuda"), load_settings(device="auto")
    assert (resources_for(cuda, 4), resources_for(auto, 4)) == (Resources(4, 1), Resources(4, 0))
    with pytest.raises(BadSetting, match="Ray assigns the GPUs"):
        resources_for(load_settings(device="cuda:1"), 1)
    monkeypatch.chdir(tmp_path)
    found = settings_for_node(load_settings(bundle=Path("mine")), Resources(3, 0))
    assert (found.bundle, found.device, found.threads("cpu")) == ((tmp_path / "mine",), "cpu", 3)
    assert settings_for_node(cuda, Resources(3, 1)).device == "cuda"
    assert settings_for_node(load_settings(engine_threads=7), Resources(3, 0)).threads("cpu") == 7


def test_options_that_need_on_ray_and_unknown_formats_are_rejected(tmp_path: Path) -> None:
    check_none_given(replicas=None)
    with pytest.raises(BadSetting, match="--replica-cpus.*--on-ray"):
        check_none_given(replicas=None, replica_cpus=1)
    assert (read_suffix(None), read_suffix("parquet")) == (".jsonl", ".parquet")
    with pytest.raises(BadSetting, match="--format"):
        read_suffix("csv")
    refused = prelabel("predict", tmp_path, tmp_path / "out", "--format", "parquet")
    assert (refused.returncode, "this option needs --on-ray" in refused.stderr) == (1, True)


def test_the_error_without_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadSetting, match=r"pip install 'prelabel\[ray\]'"):
        check_installed()


@pytest.fixture
def labeler(bundle: Bundle, onnx: Engine) -> Iterator[Labeler]:
    with Classifier(bundle, onnx, threads=1) as classifier:
        yield Labeler(classifier, read_plan(TUTORIAL_CONFIG, bundle.labels, {}))


def rows_of(parts: list[Part]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        with open_records(part.source, part.span) as (records, _):
            found += list(records)
    return found


@pytest.mark.parametrize("part_bytes", [1, 7, 20, 64, 1000, 10**6])
def test_the_parts_of_a_file_have_each_of_its_rows_once_and_in_order(tmp_path: Path, part_bytes: int) -> None:
    rows = [{"review": "é" * (index % 23)} for index in range(50)]
    lines = [
        json.dumps(row, ensure_ascii=False) + ("\r\n" if index % 3 else "\n\n")
        for index, row in enumerate(rows)
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines).rstrip(), "utf-8", newline="")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / "b.parquet", row_group_size=8)
    parts = find_parts(tmp_path / "in", OutputTarget(tmp_path / "out", ".jsonl"), (), part_bytes)
    assert rows_of(parts) == rows * 2
    assert len(parts) == len({part.name for part in parts}) == len({part.key for part in parts})
    if part_bytes == 64:
        assert [part.name for part in parts if "b" in part.name][:2] == [
            "b-00001-of-00007",
            "b-00002-of-00007",
        ]


def test_a_span_has_the_lines_that_begin_in_it(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("1\n22\n333\n")
    for span, rows in [
        (range(2), [1]),
        (range(3), [1, 22]),
        (range(2, 5), [22]),
        (range(3, 6), [333]),
        (range(6, 9), []),
        (range(9), [1, 22, 333]),
    ]:
        with open_records(tmp_path / "in.jsonl", span) as (records, _):
            assert list(records) == rows


def test_files_are_found_below_a_folder_except_those_of_other_tools(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("x/a.jsonl", "b.csv", "c.JSON.gz", "_SUCCESS", ".d.jsonl", "_e/f.jsonl", "notes.md"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    target = OutputTarget(tmp_path / "out", ".jsonl")
    assert [part.name for part in find_parts(source, target, ())] == ["b", "c", "x/a"]
    assert [part.name for part in find_parts(source / "b.csv", target, ())] == ["b"]
    (source / "b.jsonl").write_text("x")
    for wrong, out, words in [
        (source, tmp_path / "out", "2 files have the same output b.jsonl"),
        (source, source / "out", "inside the input folder"),
        (source / "notes.md", tmp_path / "out", "must end in"),
        (source / "_e", source / "b.csv", "this is a file"),
        (tmp_path / "nothing", tmp_path / "out", "no such file or folder"),
    ]:
        with pytest.raises(BadInput, match=words):
            find_parts(wrong, OutputTarget(out, ".jsonl"), ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="has no file that ends in"):
        find_parts(tmp_path / "empty", target, ())


def test_a_part_is_done_if_its_output_is_complete_and_nothing_that_affects_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_text('{"review": "good"}\n')
    target = OutputTarget(tmp_path / "out", ".jsonl")
    (part,) = find_parts(tmp_path / "in.jsonl", target, ("model 1",))
    assert target.done(part) is None
    monkeypatch.chdir(tmp_path)
    assert OutputTarget(Path("out"), ".jsonl") == target
    target.state_folder.mkdir(parents=True)
    whole = target.state_folder / "1.part"
    whole.write_text("whole")
    target.publish(whole, part, Progress(key=part.key, rows=1))
    assert (target.done(part), target.file(part).read_text()) == (Progress(key=part.key, rows=1), "whole")
    (other,) = find_parts(tmp_path / "in.jsonl", target, ("model 2",))
    assert target.done(other) is None
    (tmp_path / "in.jsonl").write_text('{"review": "bad, or so"}\n')
    (changed,) = find_parts(tmp_path / "in.jsonl", target, ("model 1",))
    assert target.done(changed) is None
    target.file(part).unlink()
    assert target.done(part) is None
    whole.write_text("left")
    target.clean()
    assert not whole.exists()


def test_parquet_has_the_tasks_and_predictions_of_the_jsonl(tmp_path: Path, labeler: Labeler) -> None:
    source = tmp_path / "in.jsonl"
    rows = [
        {"review": text, "stars": index, "nested": {"a": [1]}}
        for index, text in enumerate(random_texts(2100))
    ] + [{"review": None}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in (".jsonl", ".parquet"):
        progress = Progress(key="")
        with open_records(source) as (records, _), open_output(tmp_path / f"out{suffix}", suffix) as writer:
            assert len(list(write_tasks(records, writer, labeler, progress, source))) == 2
        assert (progress.rows, progress.without_text) == (2101, 1)
    tasks = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [
        {"data": json.loads(row["data"]), "predictions": json.loads(row["predictions"])} for row in table
    ] == tasks
    assert [row["labels"] for row in table] == [
        task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks[:-1]
    ] + [[]]
    assert [(row["score"], row["model_version"]) for row in table] == [
        (task["predictions"][0]["score"], labeler.version) for task in tasks
    ]


def test_the_error_of_a_corrupt_row_names_the_first_byte_of_its_part(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"review": "good"}\n' * 9 + "not JSON\n")
    *_, last = find_parts(tmp_path / "in.jsonl", OutputTarget(tmp_path / "out", ".jsonl"), (), 100)
    with pytest.raises(BadInput, match=r"in.jsonl, counted from byte 100: line 4 is not JSON"):
        rows_of([last])


@pytest.mark.usefixtures("logging_as_before")
def test_a_replica_is_as_healthy_as_its_models_and_has_the_deployed_bundle(bundle: Bundle) -> None:
    settings = load_settings(bundle=bundle.path, device="cpu")
    replica = Replica(settings, {"tiny": bundle.version}, "the deploying command")
    replica.check_health()
    slot = replica.server.state.registry.slots["tiny"]
    slot.failures = 3
    with pytest.raises(EngineFailed, match="tiny: its model calls fail"):
        replica.check_health()
    with pytest.raises(BadBundle, match="expected another, found tiny-.* copy the same bundle"):
        check_versions(replica.server, {"tiny": "another"})


@pytest.mark.anyio
async def test_a_response_has_one_request_id_although_the_proxy_adds_its_own(bundle: Bundle) -> None:
    app = drop_duplicate_request_id(
        build_app(load_settings(bundle=bundle.path, device="cpu"), sighup_to="the deploying command")
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client:
        assert "x-request-id" not in (await client.get("/live", headers={"X-Request-Id": "mine"})).headers
        # an invalid ID is replaced, so the response must carry the new one
        assert "x-request-id" in (await client.get("/live", headers={"X-Request-Id": "not mine"})).headers
        refused = await client.post("/admin/reload", headers={"X-Request-Id": "mine"})
        assert refused.status_code == 401


def test_a_signal_before_the_wait_ends_it() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        with signals.exit_on_stop():  # SIGHUP only asks for a redeployment
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit), signals.exit_on_stop():
            pytest.fail("it waited for a signal that does not come again")
        assert [signals.wait(), signals.wait()] == [signal.SIGHUP, signal.SIGTERM]
