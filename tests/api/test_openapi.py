"""/openapi.json: valid, about every route and no other, and true of what a real server answers."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import BaseRoute, Mount, Route

from server import errors
from server.app import build_app
from server.bundle import Bundle
from server.errors import PrelabelError
from server.settings import load_settings
from tests.launch.test_signals import until
from tests.serving import running
from tests.transport.test_admission import connected, head

ADMIN = {"Authorization": "Bearer boss"}


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    with running(bundle, admin_token="boss", path_prefix="/ml", max_tasks=3, max_body_bytes=5_000) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    assert client.get("/ml/openapi.json").json() == found
    return found


def every_route(routes: Sequence[BaseRoute], below: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each, however it was made."""
    for route in routes:
        if isinstance(route, Mount):
            yield from every_route(route.routes, below + route.path)
        else:
            assert isinstance(route, Route)
            yield from ((method, below + route.path) for method in route.methods or () if method != "HEAD")


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): described
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    names = [described["operationId"] for described in operations(document).values()]
    assert len(set(names)) == len(names)
    assert [server["url"] for server in document["servers"]] == ["/", "/ml"]


def test_it_is_about_every_route_and_no_other(document: dict[str, Any], bundle: Bundle) -> None:
    app = build_app(load_settings(bundle=(bundle.path,), device="cpu"))
    assert set(operations(document)) == set(every_route(app.routes))


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas, with no field allowed that they do not name."""
    schemas = document["components"]["schemas"]
    return {
        "schemas": {
            name: {**each, "additionalProperties": False} if "properties" in each else each
            for name, each in schemas.items()
        }
    }


def check(document: dict[str, Any], method: str, path: str, answer: httpx.Response) -> None:
    """The answer is one that the document has for this operation."""
    described = operations(document)[method, path]["responses"]
    assert str(answer.status_code) in described, (method, path, answer.text)
    content = described[str(answer.status_code)]["content"]
    kind = answer.headers["content-type"]
    assert kind in content
    if kind == "application/json":
        Draft202012Validator({**content[kind]["schema"], "components": strict(document)}).validate(
            answer.json()
        )


def filled(path: str, client: httpx.Client) -> str:
    return path.format(name="tiny", version=client.get("/versions").json()["versions"][0])


def test_every_operation_answers_what_it_says(document: dict[str, Any], client: httpx.Client) -> None:
    for (method, path), described in operations(document).items():
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        answer = client.request(
            method,
            filled(path, client),
            json=body.get("example"),
            headers=ADMIN if path.startswith("/admin") else {},
        )
        assert answer.status_code in (200, 409), (path, answer.text)
        check(document, method, path, answer)
        if body:
            Draft202012Validator({**body["schema"], "components": document["components"]}).validate(
                body["example"]
            )


INFER = "/v2/models/{name}/infer"


def texts(*data: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": data}]}


@pytest.mark.parametrize(
    ("path", "status", "sent"),
    [
        ("/predict", 400, {"content": b"x"}),
        ("/predict", 422, {"json": {"tasks": [], "label_config": "<View/>"}}),
        ("/predict", 413, {"json": {"tasks": [{}] * 4, "label_config": "<View/>"}}),
        ("/predict", 401, {"headers": {"Authorization": "Bearer wrong"}}),
        ("/setup", 422, {"json": {"schema": "<View/>"}}),
        ("/webhook", 400, {"content": b""}),
        ("/admin/reload", 400, {"headers": ADMIN, "json": {"bundle": "absent"}}),
        ("/admin/reload", 401, {}),
        (INFER, 200, {"json": texts("x") | {"parameters": {"binary_data_output": True}}}),
        (INFER, 400, {"json": {}}),
        (INFER, 413, {"json": texts(*"abcd")}),
        (INFER, 415, {"json": texts("x"), "headers": {"Content-Encoding": "gzip"}}),
        (INFER, 429, {"json": texts(*"abc")}),
        (INFER, 401, {"headers": {"Authorization": "Bearer wrong"}}),
    ],
)
def test_errors_are_as_documented(
    bundle: Bundle,
    document: dict[str, Any],
    client: httpx.Client,
    path: str,
    status: int,
    sent: dict[str, Any],
) -> None:
    if status == 401 and not path.startswith("/admin"):
        with running(bundle, api_token="one") as guarded:
            answer = guarded.post(filled(path, client), **sent)
    elif status == 429:
        with running(bundle, max_requests=1) as full, connected(full) as first:
            first.sendall(head(10))
            until(lambda: full.post(filled(path, client), **sent).status_code == 429)
            answer = full.post(filled(path, client), **sent)
    else:
        answer = client.post(filled(path, client), **sent)
    assert answer.status_code == status, answer.text
    check(document, "POST", path, answer)


def test_an_unhealthy_model_responds_as_documented(document: dict[str, Any], bundle: Bundle) -> None:
    with running(bundle) as client:
        answer = client.get("/v2/models/absent")
        check(document, "GET", "/v2/models/{name}", answer)
        assert answer.status_code == 404


def test_it_names_the_credentials_that_are_needed(bundle: Bundle, document: dict[str, Any]) -> None:
    assert operations(document)["POST", "/predict"]["security"] == [{}]
    with running(bundle, basic_auth_user="u", basic_auth_pass="p", api_token="one") as client:
        assert client.get("/openapi.json", headers={"Authorization": "Bearer wrong"}).status_code == 401
        described = operations(client.get("/openapi.json").json())
    assert (
        described["POST", "/predict"]["security"]
        == described["GET", "/v2"]["security"]
        == [{"basic": []}, {"bearer": []}]
    )
    assert described["GET", "/health"]["security"] == [{}, {"basic": []}, {"bearer": []}]
    assert described["POST", "/admin/reload"]["security"] == [{"administrator": []}]


def test_a_response_of_each_error_is_described_by_the_meaning_on_its_class(document: dict[str, Any]) -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PrelabelError)
    ]
    assert all(vars(kind).get("meaning") for kind in kinds)
    meanings = {(kind.status, kind.meaning) for kind in kinds}
    assert len({meaning for _, meaning in meanings}) == len(kinds)
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            if "schema" in response["content"].get("application/json", {}) and int(status) >= 400:
                body = response["content"]["application/json"]["schema"]["$ref"]
                if body.endswith("ErrorBody"):
                    assert (int(status), response["description"]) in meanings


SCHEMATHESIS = """
[[operations]]
include-path = "/predict"
checks.negative_data_rejection.enabled = false
"""
"""An invalid task gets an empty prediction; otherwise Label Studio would request all of them again."""


@pytest.mark.slow
def test_an_outside_fuzzer_finds_every_answer_to_be_as_it_says(client: httpx.Client, tmp_path: Path) -> None:
    """schemathesis makes requests from the document, right ones and wrong ones. It cannot know that shapes
    fit data, nor labeling configs.
    """
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{client.base_url}/openapi.json",
        "--phases",
        "coverage,fuzzing",
    ]
    options = [
        "--exclude-checks",
        "positive_data_acceptance",
        "--exclude-path-regex",
        "^/tiny",
        "--seed",
        "1",
        "--max-examples",
        "10",
    ]
    credentials = ["--header", f"Authorization: {ADMIN['Authorization']}"]
    done = subprocess.run(
        [*command, *options, *credentials, "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 20" in done.stdout
