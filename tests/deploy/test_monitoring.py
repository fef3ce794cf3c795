"""Prometheus' rules and Grafana's dashboard: their metrics exist, and promtool accepts them if it is
installed.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import ROOT

RULES = ROOT / "deploy/prometheus/alerts.yml"
RULE_TESTS = RULES.with_name("alerts_test.yml")
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/prelabel.json").read_text("utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in docs/metrics.md; tests/observability/test_metrics.py checks that
    table.
    """
    rows = re.findall(
        r"^\| `(prelabel_\w+)` \| (\w+) \| ?([^|]*)\|",
        (ROOT / "docs/metrics.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {
        name: (kind, {each for each in labels.strip().split(", ") if each}) for name, kind, labels in rows
    }


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def board_queries() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))


def other_queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (
        variable["query"]["query"] for variable in BOARD["templating"]["list"] if variable["type"] == "query"
    )
    yield from (
        series["series"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for series in test["input_series"]
    )


@pytest.mark.parametrize("query", [*board_queries(), *other_queries()])
def test_metrics_and_labels_exist(query: str) -> None:
    metrics = documented()
    for name, selectors in re.findall(r"\b(prelabel_\w+)(?:\{([^}]*)\})?", query):
        family = name if name in metrics else re.sub(r"_(bucket|sum|count)$", "", name)
        assert family in metrics, name
        kind, labels = metrics[family]
        assert (kind == "histogram") == (family != name)
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) <= labels | {"job", "instance", "le"}
    for name in re.findall(r"\bprelabel:[\w:]+", query):
        assert name in [rule.get("record") for rule in rules()]


def test_every_metric_is_on_the_board_or_in_a_rule() -> None:
    named = " ".join([*board_queries(), *other_queries()])
    assert [name for name in documented() if name not in named] == []


def test_the_panels_are_distinct_and_described() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"] and panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & taken
        assert position["x"] + position["w"] <= 24
        taken |= cells


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    rung = {
        each["alertname"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for each in test["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert rung == set(alerts)
    assert all(
        rule["labels"]["severity"] in ("page", "ticket")
        and set(rule["annotations"]) == {"summary", "description"}
        for rule in alerts.values()
    )
    for name in re.findall(r"the alert (\w+)", (ROOT / "docs/metrics.md").read_text("utf-8")):
        assert name in alerts


def test_compose_mounts_the_files_where_the_services_read_them() -> None:
    grafana, prometheus = COMPOSE["services"]["grafana"], COMPOSE["services"]["prometheus"]
    assert grafana["profiles"] == prometheus["profiles"] == ["monitoring"]
    mounted = dict(each.split(":")[:2] for service in (grafana, prometheus) for each in service["volumes"])
    assert all((ROOT / source).is_dir() for source in mounted if source.startswith("."))
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/prelabel.yml").read_text())[
        "providers"
    ][0]
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ][0]
    assert source["url"] == "http://prometheus:9090"
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = [each for each in config["scrape_configs"] if each["job_name"] == "prelabel"]
    assert job["static_configs"] == [{"targets": ["prelabel:9090"]}]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(promtool: str, command: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *command], cwd=RULES.parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_boards_queries(promtool: str, tmp_path: Path) -> None:
    filled = [
        query.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+")
        for query in board_queries()
    ]
    written = tmp_path / "board.yml"
    written.write_text(
        yaml.safe_dump(
            {
                "groups": [
                    {
                        "name": "board",
                        "rules": [{"record": f"q:{i}", "expr": expr} for i, expr in enumerate(filled)],
                    }
                ]
            }
        )
    )
    done = subprocess.run([promtool, "check", "rules", written], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
