"""Who may ask."""

import base64

import pytest

from server.auth import check_admin, check_basic, check_health
from server.errors import AdminOnly, Unauthorized


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


RIGHT = basic("team:schlüssel:1")
WRONG = [
    {}, {"authorization": ""}, {"authorization": "Basic"}, {"authorization": "Basic !!!"}, {"authorization": "Basic é"}, {"authorization": "Bearer x"},
    basic("team"), basic("team:"), basic(":schlüssel:1"), basic("Team:schlüssel:1"), basic("team:schlüssel:1 "),
]  # fmt: skip


def test_only_the_right_credentials_pass() -> None:
    check_basic(RIGHT, "team", "schlüssel:1")
    for headers in WRONG:
        with pytest.raises(Unauthorized, match="PRELABEL_BASIC_AUTH_USER") as refusal:
            check_basic(headers, "team", "schlüssel:1")
        assert "schlüssel" not in str(refusal.value)


def test_where_no_user_is_set_everybody_passes() -> None:
    for headers in [RIGHT, *WRONG]:
        check_basic(headers, "", "")
        check_health(headers, "", "")


def test_health_is_open_to_probes_and_wrong_credentials_are_told_there() -> None:
    check_health({"user-agent": "kube-probe/1.30"}, "team", "x")
    check_health(basic("team:x") | {"user-agent": "heartex/1.23.2"}, "team", "x")
    for headers in (basic("team:y"), {"user-agent": "heartex/1.23.2+0.gdf96d79.dirty"}):
        with pytest.raises(Unauthorized):
            check_health(headers, "team", "x")


def test_the_administrators_token() -> None:
    check_admin({"authorization": "Bearer hush"}, "hush")
    for given in ("", "Bearer hus", "Basic hush", "Bearer é", "hush"):
        with pytest.raises(AdminOnly, match="Bearer"):
            check_admin({"authorization": given}, "hush")
    with pytest.raises(AdminOnly, match="PRELABEL_ADMIN_TOKEN"):
        check_admin({"authorization": "Bearer "}, "")
