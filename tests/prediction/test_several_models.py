"""The whole server: several models, ensembles, a path prefix, credentials, reload, and what it tells of
failures.
"""

import concurrent.futures
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle, read_bundle
from server.errors import BadBundle
from server.interpreter import SWITCH_INTERVAL
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.conftest import random_texts, tiny_network
from tests.serving import predict, predict_body, running, set_up

TEXTS = random_texts(40)
BAD_CONFIG = TUTORIAL_CONFIG.replace('"Positive"', '"Great"')


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(tiny_network(seed=1), tmp_path_factory.mktemp("bundles") / "other")


@pytest.fixture(scope="module")
def client(bundle: Bundle, other: Bundle) -> Iterator[httpx.Client]:
    with running(bundle, other, ensemble="both=tiny,other:3,1", path_prefix="/ml") as client:
        yield client


def scores(client: httpx.Client, path: str) -> list[float]:
    """Probability of Positive."""
    return [
        each["score"] if each["result"][0]["value"]["choices"] == ["Positive"] else 1 - each["score"]
        for each in predict(client, TEXTS, path=path)
    ]


@pytest.mark.parametrize("prefix", ["", "/ml"])
def test_each_model_is_a_backend_of_its_own(
    client: httpx.Client, bundle: Bundle, other: Bundle, prefix: str
) -> None:
    versions = {
        path: client.get(f"{prefix}{path}/health").json()["model_version"]
        for path in ("", "/tiny", "/other", "/both")
    }
    assert (versions[""], versions["/tiny"], versions["/other"]) == (
        bundle.version,
        bundle.version,
        other.version,
    )
    assert versions["/both"].startswith("both-")
    for path, version in versions.items():
        assert set_up(client, path=prefix + path).json() == {"model_version": version}
        assert client.get(f"{prefix}{path}/versions").json() == {"versions": [version]}
        assert {each["model_version"] for each in predict(client, TEXTS, path=prefix + path)} == {version}


def test_an_ensemble_answers_with_the_weighted_mean(client: httpx.Client) -> None:
    first, second, both = (np.array(scores(client, path)) for path in ("/tiny", "/other", "/both"))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(both, 0.75 * first + 0.25 * second, atol=1e-6)


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    assert client.get("/absent/health").status_code == 404


def test_a_name_that_is_a_path_of_the_server_stays_one(tmp_path: Path, bundle: Bundle) -> None:
    shutil.copytree(bundle.path, tmp_path / "predict")
    with running(read_bundle(tmp_path / "predict")) as client:
        assert len(predict(client, ["good"])) == 1


def basic(user: str, password: str) -> httpx.BasicAuth:
    return httpx.BasicAuth(user, password)


def test_everything_but_health_asks_for_credentials_where_some_are_set(bundle: Bundle) -> None:
    with running(bundle, basic_auth_user="team", basic_auth_pass="a: b") as client:
        assert client.get("/health").status_code == client.get("/tiny/health").status_code == 200
        assert client.get("/health", auth=basic("team", "wrong")).status_code == 401
        paths = [
            ("GET", "/"),
            ("POST", "/setup"),
            ("POST", "/predict"),
            ("GET", "/versions"),
            ("POST", "/webhook"),
            ("POST", "/tiny/predict"),
        ]
        for method, path in paths:
            refused = client.request(method, path, content=b"{}")
            assert refused.status_code == 401, path
            assert refused.headers["www-authenticate"].startswith("Basic")
        client.auth = basic("team", "a: b")
        assert set_up(client).is_success
        assert len(predict(client, ["good"])) == 1
        projects = client.get("/")
        assert [(each["project"], each["refused"]) for each in projects.json()["projects"]] == [
            ("1.1795474444", 0),
            ("unknown", 7),
        ]
        assert "a: b" not in projects.text


def publish(bundle: Bundle, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle.path, folder)


def test_a_new_bundle_is_taken_without_dropping_a_request(
    bundle: Bundle, other: Bundle, tmp_path: Path
) -> None:
    publish(bundle, tmp_path / "live")
    admin = {"Authorization": "Bearer hush"}
    with (
        running(read_bundle(tmp_path / "live"), admin_token="hush") as client,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        swapped = False

        def ask() -> set[str]:
            seen = set()
            while True:
                last = swapped
                seen |= {each["model_version"] for each in predict(client, TEXTS)}
                if last:
                    return seen

        asking = [pool.submit(ask) for _ in range(4)]
        publish(other, tmp_path / "live")
        changed = client.post("/admin/reload", headers=admin, json={"bundle": "live"})
        assert changed.json() == {
            "changes": [{"name": "live", "version": other.version, "before": bundle.version, "error": None}]
        }
        swapped = True
        seen = [each.result() for each in asking]
        assert set().union(*seen) <= {bundle.version, other.version}
        assert all(other.version in each for each in seen)
        assert set_up(client).json() == {"model_version": other.version}

        (tmp_path / "live" / "vocab.txt").write_text("broken\n")
        refused = client.post("/admin/reload", headers=admin)
        assert (refused.status_code, "vocab.txt is altered or truncated" in refused.text) == (409, True)
        assert predict(client, ["good"])[0]["model_version"] == other.version

        assert client.post("/admin/rollback", headers=admin).json()["changes"][0]["version"] == bundle.version
        assert set_up(client).json() == {"model_version": bundle.version}


def test_only_the_administrator_reloads(bundle: Bundle) -> None:
    with running(bundle, admin_token="hush", basic_auth_user="team", basic_auth_pass="pass") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            refused = client.post("/admin/reload", headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Bearer")
        admin = {"Authorization": "Bearer hush"}
        assert client.post("/admin/reload", headers=admin).json()["changes"][0]["error"] is None
        assert client.post("/admin/reload", headers=admin, json={"bundle": "absent"}).status_code == 400
        assert client.post("/admin/reload", headers=admin, json={"bundle": 7}).status_code == 400
    with running(bundle) as client:
        assert "PRELABEL_ADMIN_TOKEN" in client.post("/admin/reload", headers=admin).json()["detail"]


def test_a_bundle_that_cannot_serve_keeps_the_server_from_starting(bundle: Bundle, tmp_path: Path) -> None:
    publish(bundle, tmp_path / "live")
    live = read_bundle(tmp_path / "live")
    (tmp_path / "live" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BadBundle, match="model.onnx is altered or truncated"), running(live):
        pass


def test_errors_that_label_studio_hides_are_shown(client: httpx.Client, bundle: Bundle) -> None:
    secret = "a very private sentence"
    assert set_up(client, project="5.1").is_success
    predict(client, [secret, None, "good"], project="5.1")
    assert set_up(client, BAD_CONFIG, project="6.1").status_code == 422
    assert client.post("/predict", json=predict_body([secret], BAD_CONFIG, "6.1")).status_code == 422
    assert client.post("/predict", json={"tasks": secret, "project": "7.1"}).status_code == 400
    answer = client.get("/")
    projects = {each["project"]: each for each in answer.json()["projects"]}
    assert (projects["5.1"]["model_version"], projects["5.1"]["config"]) == (
        bundle.version,
        "sentiment ← text ($review)",
    )
    assert (
        projects["5.1"]["predicted"],
        projects["5.1"]["empty"],
        projects["5.1"]["failed"],
        projects["5.1"]["refused"],
    ) == (2, 1, 0, 0)
    assert '"Positive"' in projects["6.1"]["config"]
    assert projects["6.1"]["refused"] == 2
    assert projects["7.1"]["last_errors"][0]["reason"].startswith("tasks: expected a list")
    assert {"6.1"} == {each["project"] for each in answer.json()["refused_configs"]}
    assert secret not in answer.text
    assert client.get("/other/").json()["refused_configs"] == []


def lengths_of(results: list[dict[str, Any]]) -> list[int]:
    return [len(each.get("result", ())) for each in results]


def test_several_controls_of_one_config_are_filled(client: httpx.Client) -> None:
    config = """<View><Text name="t" value="$film.title"/><Text name="b" value="$body"/>
    <Choices name="title" toName="t"><Choice value="Positive"/><Choice value="Negative"/></Choices>
    <Choices name="body" toName="b" choice="multiple">
    <Choice value="Positive"/><Choice value="Negative"/></Choices></View>"""
    tasks = [
        {"data": {"film": {"title": "good"}, "body": "bad"}},
        {"data": {"body": "bad"}},
        {"data": {"film": "none"}},
    ]
    results = client.post("/predict", json={"tasks": tasks, "label_config": config}).json()["results"]
    assert lengths_of(results) == [2, 1, 0]
    assert [region["from_name"] for region in results[0]["result"]] == ["title", "body"]


def test_twenty_thousand_tasks_in_one_request_while_single_ones_are_answered(client: httpx.Client) -> None:
    texts = [TEXTS[i % len(TEXTS)][:200] for i in range(20_000)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        big = pool.submit(predict, client, texts)
        singles = 0
        while not big.done():
            assert len(predict(client, ["good"])) == 1
            singles += 1
        results = big.result()
    assert len(results) == 20_000
    assert results[:40] == predict(client, texts[:40])
    assert singles >= 5


def test_threads_hand_the_interpreters_lock_over_soon(client: httpx.Client) -> None:
    """Otherwise the event loop waits for 5 ms whenever a thread prepares a large request."""
    assert client.get("/health").is_success
    assert sys.getswitchinterval() <= SWITCH_INTERVAL
