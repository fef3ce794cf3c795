"""Who may ask."""

import base64

import httpx
import pytest

from server.bundle import Bundle
from server.errors import AdminOnly, Unauthorized
from server.transport.auth import Credentials, check_admin, check_caller, check_health
from tests.serving import running

TEAM = Credentials("team", "schlüssel:1")
BOTH = Credentials("team", "schlüssel:1", ("one", "other"))


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


RIGHT = basic("team:schlüssel:1")
WRONG = [
    {},
    *(
        {"authorization": value}
        for value in ("", "Basic", "Basic !!!", "Basic é", "Bearer x", "one", RIGHT["authorization"][6:])
    ),
    {"authorization": RIGHT["authorization"].replace("Basic", "Bearer")},
    *map(basic, ("team", "team:", ":schlüssel:1", "Team:schlüssel:1", "team:schlüssel:1 ", "one", ":one")),
    *map(bearer, ("", "on", "one ", "one,other")),
]


def test_only_the_right_credentials_pass() -> None:
    check_caller(RIGHT, TEAM)
    for headers in [*WRONG, bearer("one")]:
        with pytest.raises(Unauthorized, match="PRELABEL_BASIC_AUTH_USER") as raised:
            check_caller(headers, TEAM)
        assert "schlüssel" not in str(raised.value)


def test_a_token_is_enough_and_so_is_the_password() -> None:
    for headers in (RIGHT, bearer("one"), bearer("other"), {"authorization": "bearer one"}):
        check_caller(headers, BOTH)
    for headers in WRONG:
        with pytest.raises(
            Unauthorized, match=r"PRELABEL_BASIC_AUTH_PASS\) or a token \(one of PRELABEL_API_TOKEN"
        ) as raised:
            check_caller(headers, BOTH)
        assert (
            raised.value.headers["WWW-Authenticate"]
            == 'Basic realm="Prelabel", charset="UTF-8", Bearer realm="Prelabel"'
        )
    check_caller(bearer("one"), Credentials(tokens=("one",)))
    with pytest.raises(Unauthorized, match=r"server needs a token") as raised:
        check_caller(basic(":"), Credentials(tokens=("one",)))
    assert raised.value.headers["WWW-Authenticate"] == 'Bearer realm="Prelabel"'


def test_where_nothing_is_set_everybody_passes() -> None:
    for headers in [RIGHT, *WRONG]:
        check_caller(headers, Credentials())
        check_health(headers, Credentials())


def test_health_is_open_to_probes_but_refuses_wrong_credentials() -> None:
    callers = Credentials("team", "x", ("one",))
    check_health({"user-agent": "kube-probe/1.30"}, callers)
    check_health(basic("team:x") | {"user-agent": "heartex/1.23.2"}, callers)
    check_health(bearer("one"), callers)
    for headers in (basic("team:y"), bearer("two"), {"user-agent": "heartex/1.23.2+0.gdf96d79.dirty"}):
        with pytest.raises(Unauthorized):
            check_health(headers, callers)


def test_the_administrators_token() -> None:
    check_admin(bearer("hush"), "hush")
    for given in ("", "Bearer hus", "Basic hush", "Bearer é", "hush", "Bearer hush "):
        with pytest.raises(AdminOnly, match="Bearer"):
            check_admin({"authorization": given}, "hush")
    with pytest.raises(AdminOnly, match="PRELABEL_ADMIN_TOKEN"):
        check_admin({"authorization": "Bearer "}, "")


def test_callers_do_not_show_their_secrets() -> None:
    assert "schlüssel" not in repr(BOTH)
    assert "other" not in repr(BOTH)


def test_each_kind_of_access_needs_its_own_credentials(bundle: Bundle) -> None:
    """Every route through a real server: the administrator's token opens the admin routes and nothing else,
    and the others' opens everything else.
    """
    with running(
        bundle, basic_auth_user="u", basic_auth_pass="p", api_token="one,two", admin_token="boss"
    ) as client:
        callers = [
            ("GET", "/"),
            ("POST", "/setup"),
            ("POST", "/predict"),
            ("GET", "/versions"),
            ("POST", "/webhook"),
            ("GET", "/tiny/versions"),
        ]
        admin = [("POST", "/admin/reload"), ("POST", "/admin/rollback")]

        def status(route: tuple[str, str], headers: dict[str, str]) -> int:
            answer = client.request(*route, headers=headers)
            assert (answer.status_code == 401) == ("www-authenticate" in answer.headers)
            return answer.status_code

        for route in callers:
            assert {
                status(route, headers) for headers in ({}, bearer("boss"), bearer("x"), basic("u:boss"))
            } == {401}
            assert 401 not in {
                status(route, headers) for headers in (basic("u:p"), bearer("one"), bearer("two"))
            }
        for route in admin:
            assert {
                status(route, headers)
                for headers in ({}, basic("u:p"), bearer("one"), basic("u:boss"), bearer("x"))
            } == {401}
            assert status(route, bearer("boss")) in (200, 409)
        for path in ("/health", "/live", "/metrics", "/ready", "/openapi.json"):
            assert status(("GET", path), {}) == 200
            assert status(("GET", path), bearer("boss")) == 401


def test_an_error_says_which_credentials_are_needed(bundle: Bundle) -> None:
    with running(bundle, api_token="one") as client:
        refused: httpx.Response = client.get("/")
    assert refused.headers["www-authenticate"] == 'Bearer realm="Prelabel"'
    assert refused.json()["error"] == "Unauthorized"
    assert "PRELABEL_API_TOKEN" in refused.json()["detail"]
