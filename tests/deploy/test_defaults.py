"""The deployment files repeat the default port and bundle, and must match the settings."""

import re

from server.settings import Settings
from tests.deploy.test_kubernetes import content
from tests.e2e.conftest import ROOT

PORT = Settings.model_fields["port"].default
BUNDLE = Settings.model_fields["bundle"].default[0]


def numbers(file: str, pattern: str) -> list[int]:
    return [int(found) for found in re.findall(pattern, (ROOT / file).read_text("utf-8"))]


def test_the_port() -> None:
    for file in ("Dockerfile", "Dockerfile.cuda"):
        assert numbers(file, r"PRELABEL_PORT=(\d+)") == numbers(file, r"EXPOSE (\d+)") == [PORT]
    assert numbers("docker-compose.yml", r"127\.0\.0\.1:(\d+):9090")[0] == PORT
    assert numbers("deploy/prometheus/prometheus.yml", r"prelabel:(\d+)") == [PORT]
    pod = content("deployment.yaml")["spec"]["template"]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(PORT)
    assert pod["spec"]["containers"][0]["ports"][0]["containerPort"] == PORT
    assert content("service.yaml")["spec"]["ports"][0]["port"] == PORT


def test_the_bundle() -> None:
    for file in ("Dockerfile", "Dockerfile.cuda"):
        copied = re.findall(r"COPY (artifacts/\S+) (artifacts/\S+)", (ROOT / file).read_text("utf-8"))
        assert copied
        assert set(copied) == {(str(BUNDLE), str(BUNDLE))}
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert re.findall(r"PRELABEL_BUNDLE:-/app/(\S+)\}", compose) == [str(BUNDLE)]
