"""The Compose files, read by an implementation of the Compose specification, and `deploy/up.sh` on incomplete
hosts.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from server.settings import Settings
from tests.deploy import compose
from tests.e2e.conftest import ROOT

FILES = [ROOT / "docker-compose.yml", ROOT / "docker-compose.gpu.yml"]


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def schema_check(*paths: Path) -> "subprocess.CompletedProcess[str]":
    """Check against the specification's own schema, which is part of the package."""
    program = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", *paths],
        check=False,
        capture_output=True,
        text=True,
    )


def test_follows_the_specifications_schema(tmp_path: Path) -> None:
    done = schema_check(*FILES)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[1].read_text().replace("capabilities", "capability"))
    refused = schema_check(wrong)
    assert (refused.returncode, "capabilit" in refused.stdout) == (1, True), refused.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_implementation_reads_it(path: Path) -> None:
    read = PyCompose.from_yaml(compose.filled_in(path.read_text()))
    assert sorted(read.service_names()) == sorted(content(path)["services"])


def test_a_wrong_file_is_noticed() -> None:
    wrong = compose.filled_in(FILES[0].read_text()).replace("service_healthy", "service_happy")
    with pytest.raises(ValueError, match="service_happy"):
        PyCompose.from_yaml(wrong)


@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["cpu", "gpu"])
def test_docker_compose_merges_them_as_our_reader_does(tmp_path: Path, files: list[Path]) -> None:
    """`config` needs no daemon. Version 1 knows no `name`, so it gets the files without."""
    program = docker_compose()
    (tmp_path / "deploy/secrets").mkdir(parents=True)
    (tmp_path / "deploy/secrets/admin_token").touch()
    for path in files:
        (tmp_path / path.name).write_text(path.read_text().replace("name: prelabel\n", ""))
    options = [word for path in files for word in ("--file", str(tmp_path / path.name))]
    done = subprocess.run([*program, *options, "config"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    merged, services = yaml.safe_load(done.stdout)["services"], compose.read(*files)
    assert merged.keys() == services.keys()
    for name, service in services.items():
        actual = merged[name]
        assert actual["image"] == service.image
        assert {key: str(each) for key, each in actual["environment"].items()} == service.environment
        assert Path(actual.get("build", {}).get("dockerfile", "")).name == service.dockerfile
        assert tuple(actual.get("depends_on", ())) == service.waits_for
        assert len(actual.get("volumes", ())) == len(service.volumes)
        assert len(actual["ports"]) == len(service.ports)
        assert len(actual.get("secrets", ())) == len(service.secrets)
        assert tuple(actual.get("healthcheck", {}).get("test", ())[1:]) == service.check
        assert compose.seconds(actual.get("stop_grace_period", "10s")) == service.grace


def docker_compose() -> list[str]:
    for program in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(program[0])
            and subprocess.run([*program, "version"], check=False, capture_output=True).returncode == 0
        ):
            return program
    pytest.skip("neither docker's compose plugin nor docker-compose is installed")


def test_later_files_add_to_lists_and_variables_have_defaults(tmp_path: Path) -> None:
    first, second = tmp_path / "one.yml", tmp_path / "two.yml"
    first.write_text("""
services:
  late:
    image: late:1
    depends_on: {early: {condition: service_healthy}}
  early:
    image: early:1
    environment: {A: "${A:-one}", B: b}
    volumes: ["./here:/there:ro", "own:/own"]
    healthcheck: {test: [CMD, "true"]}
    stop_grace_period: 1m30s
  watching: {image: watching:1, profiles: [monitoring]}
""")
    second.write_text("""
services:
  early:
    environment: {B: c}
    volumes: ["./more:/more"]
    healthcheck: {test: [CMD, "false"]}
""")
    found = compose.read(first, second, variables={"A": "two"})
    assert list(found) == ["early", "late"], "in the order of starting, without those of a profile"
    assert found["early"].environment == {"A": "two", "B": "c"}
    assert found["early"].volumes == {"/there": tmp_path / "here", "/own": None, "/more": tmp_path / "more"}
    assert (found["early"].check, found["early"].grace) == (("false",), 90)
    assert compose.read(first)["early"].environment["A"] == "one"
    with pytest.raises(ValueError, match="NEVER"):
        compose.filled_in("a: ${NEVER:?}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_settings_exist(path: Path) -> None:
    for name in content(path)["services"]["prelabel"]["environment"]:
        assert name.removeprefix("PRELABEL_").removesuffix("_FILE").lower() in Settings.model_fields


def test_label_studio_is_the_tested_version_and_reaches_private_addresses() -> None:
    studio = content(FILES[0])["services"]["label-studio"]
    version = re.search(r"^LABEL_STUDIO := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version
    assert studio["image"] == f"heartexlabs/label-studio:{version[1]}"
    assert studio["environment"]["USE_DEFAULT_BANNED_SUBNETS"] == "False"
    assert studio["depends_on"]["prelabel"]["condition"] == "service_healthy"


def test_every_port_is_on_loopback_and_every_image_has_a_version() -> None:
    for service in content(FILES[0])["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert ":" in service["image"]


def test_the_grace_period_exceeds_the_drain_timeout() -> None:
    prelabel = content(FILES[0])["services"]["prelabel"]
    assert "PRELABEL_DRAIN_TIMEOUT" not in prelabel["environment"], "the default of the setting holds"
    drain = Settings.model_fields["drain_timeout"].default
    assert int(prelabel["stop_grace_period"].removesuffix("s")) > drain


def up(tmp_path: Path, kind: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of deploy/up.sh on a host that has only these programs: name → shell script."""
    path = tmp_path / "bin"
    path.mkdir()
    for each in ("sh", "head", "mkdir", "od", "tr", "chmod", "dirname"):
        found = shutil.which(each)
        assert found
        (path / each).symlink_to(found)
    for name, script in programs.items():
        (path / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
        (path / name.replace("_", "-")).chmod(0o755)
    (tmp_path / "deploy").mkdir()
    copy = shutil.copy(ROOT / "deploy/up.sh", tmp_path / "deploy/up.sh")
    return subprocess.run(
        [path / "sh", copy, kind], env={"PATH": str(path)}, check=False, capture_output=True, text=True
    )


def test_everything_missing_is_listed_at_once(tmp_path: Path) -> None:
    done = up(tmp_path, "gpu")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["Missing:"] * 3
    assert "nvidia-ctk" in done.stderr
    assert not (tmp_path / "deploy/secrets").exists()


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"docker": "exit 1"}, "Docker daemon"),
        ({"docker": '[ "$1" = info ]'}, "compose plugin"),
        ({"nvidia_smi": "echo 570.12.1"}, "found 570.12.1"),
        ({"nvidia_smi": "exit 9"}, "lists no GPU"),
    ],
)
def test_what_does_not_work_is_named(tmp_path: Path, programs: dict[str, str], said: str) -> None:
    done = up(
        tmp_path,
        "gpu",
        **({"docker": "true", "nvidia_smi": "echo 580.65.06", "nvidia_ctk": "true"} | programs),
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("kind", "files"), [("gpu", 2), ("cpu", 1)])
def test_starts_if_nothing_is_missing(tmp_path: Path, kind: str, files: int) -> None:
    programs = {"docker": 'echo "$@"'} | (
        {"nvidia_smi": "echo 580.65.06", "nvidia_ctk": "true"} if kind == "gpu" else {}
    )
    done = up(tmp_path, kind, **programs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--file") == files
    for name in ("admin_token", "grafana_password"):
        assert re.fullmatch("[0-9a-f]{48}", (tmp_path / "deploy/secrets" / name).read_text())
    assert (tmp_path / "deploy/secrets").stat().st_mode & 0o777 == 0o700
