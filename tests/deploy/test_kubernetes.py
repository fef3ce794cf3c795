"""The Kubernetes manifests: their schemas, and how they fit together."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from server.settings import Settings
from tests.deploy.dockerfile import read
from tests.e2e.conftest import ROOT

FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.29", kubernetes_validate.latest_version())


def manifests() -> list[Path]:
    named = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
    return [FOLDER / "base" / each for each in named]


def content(name: str) -> Any:
    return yaml.safe_load((FOLDER / "base" / name).read_text())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.stem)
def test_follows_the_schema(path: Path, version: str) -> None:
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)


def test_a_wrong_manifest_is_noticed() -> None:
    wrong = content("deployment.yaml")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_every_manifest_is_in_the_kustomization() -> None:
    assert {path.name for path in manifests()} == {path.name for path in (FOLDER / "base").iterdir()} - {
        "kustomization.yaml"
    }


def test_selectors_match_the_pods_of_the_deployment() -> None:
    labels = content("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert content("deployment.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert content("service.yaml")["spec"]["selector"] == labels
    assert content("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert content("network.yaml")["spec"]["podSelector"]["matchLabels"] == labels


def test_the_service_does_not_set_the_port() -> None:
    """Kubernetes would set the variable PRELABEL_PORT for a Service of this name, to tcp://ADDRESS:PORT."""
    assert content("service.yaml")["metadata"]["name"] == "prelabel"
    assert content("deployment.yaml")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_grace_period_exceeds_pause_and_drain_timeout() -> None:
    pod = content("deployment.yaml")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "env" not in container, "the defaults of the settings hold"
    drain = Settings.model_fields["drain_timeout"].default
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + drain


def test_runs_as_the_images_user_and_writes_only_to_tmp() -> None:
    pod = content("deployment.yaml")["spec"]["template"]["spec"]
    user = next(
        each.words for each in read(ROOT / "Dockerfile") if (each.stage, each.name) == ("serve", "USER")
    )
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == user
    context = pod["containers"][0]["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [each["mountPath"] for each in pod["containers"][0]["volumeMounts"]] == ["/tmp"]  # noqa: S108


def test_scaling_by_queue_age_keeps_scaling_by_cpu() -> None:
    scaler, patch = (
        content("autoscaler.yaml"),
        yaml.safe_load((FOLDER / "components/queue-age/autoscaler.yaml").read_text()),
    )
    assert (patch["kind"], patch["metadata"]["name"]) == (scaler["kind"], scaler["metadata"]["name"])
    processor, queue = patch["spec"]["metrics"]
    assert [processor] == scaler["spec"]["metrics"]
    kubernetes_validate.validate(scaler | {"spec": scaler["spec"] | patch["spec"]}, VERSIONS[0], strict=True)
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter/values.yaml").read_text())["rules"]["custom"]
    name = queue["pods"]["metric"]["name"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert f"`{name}`" in (ROOT / "docs/metrics.md").read_text("utf-8")


def test_prometheus_finds_and_reaches_the_pods() -> None:
    template = content("deployment.yaml")["spec"]["template"]
    port = template["spec"]["containers"][0]["ports"][0]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port["containerPort"]),
        "prometheus.io/path": "/metrics",
    }
    (ingress,) = content("network.yaml")["spec"]["ingress"]
    assert {"matchLabels": {"app.kubernetes.io/name": "prometheus"}} in [
        each.get("podSelector") for each in ingress["from"]
    ]
    assert ingress["ports"] == [{"port": port["name"]}]


@pytest.mark.parametrize(
    ("name", "tag", "gpus", "scaled_by"),
    [
        ("base", "cpu", None, ["Resource"]),
        ("overlays/gpu", "cuda", 1, ["Resource"]),
        ("overlays/queue-age", "cpu", None, ["Resource", "Pods"]),
    ],
)
def test_rendered(name: str, tag: str, gpus: int | None, scaled_by: list[str]) -> None:
    """Renders only; needs no cluster."""
    if tool := shutil.which("kustomize"):
        command = [tool, "build"]
    elif tool := shutil.which("kubectl"):
        command = [tool, "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run([*command, FOLDER / name], check=True, capture_output=True, text=True)
    rendered = list(yaml.safe_load_all(done.stdout))
    for each in rendered:
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "prelabel"
    deployment = next(each for each in rendered if each["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"prelabel:{tag}"
    assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus
    scaler = next(each for each in rendered if each["kind"] == "HorizontalPodAutoscaler")
    assert [each["type"] for each in scaler["spec"]["metrics"]] == scaled_by
    assert scaler["spec"]["maxReplicas"] == content("autoscaler.yaml")["spec"]["maxReplicas"]
    assert [each["name"] for each in container.get("env", ())] == (["PRELABEL_DEVICE"] if gpus else [])
