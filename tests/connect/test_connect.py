"""The rules of `prelabel connect`, on rows as Label Studio's API returns them, and errors in its options."""

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from server.connect import checklist, desired_state, remedies, restore_point
from server.connect.options import ConnectOptions, read_options
from server.connect.restore_point import RestorePoint
from server.errors import BadSetting, LabelStudioRefused, LabelStudioUnreachable
from server.label_studio.credentials import BasicAuth, basic_auth, origin, token, web_address
from tests.conftest import ROOT

BACKEND = "http://192.0.2.7:9090/imdb"
AUTH = BasicAuth("label-studio", "s3cret:u")
HEADER = "Basic bGFiZWwtc3R1ZGlvOnMzY3JldDp1"


def ml_backend(**fields: Any) -> desired_state.Row:
    defaults = {
        "id": 1,
        "url": BACKEND,
        "title": "v1",
        "auto_update": True,
        "auth_method": "NONE",
        "basic_auth_user": "",
        "basic_auth_pass_is_set": False,
    }
    return defaults | {"description": ""} | fields


def webhook(number: int, url: str = f"{BACKEND}/webhook", **fields: Any) -> desired_state.Row:
    defaults = {
        "id": number,
        "project": 7,
        "url": url,
        "send_payload": True,
        "send_for_all_actions": True,
        "headers": {},
        "is_active": True,
        "actions": [],
    }
    return defaults | fields


def numbers(hooks: list[desired_state.Row]) -> list[int]:
    return [hook["id"] for hook in hooks]


def test_an_ml_backend_gets_the_version_as_its_title_and_the_missing_password() -> None:
    assert desired_state.backend_changes(ml_backend(), "v1", None) == {}
    assert desired_state.backend_changes(ml_backend(title="default", auto_update=False), "v1", None) == {
        "title": "v1",
        "auto_update": True,
    }
    assert desired_state.backend_changes(ml_backend(title="default"), None, None) == {}
    secret = {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "label-studio",
        "basic_auth_pass": AUTH.password,
    }
    assert desired_state.backend_changes(ml_backend(), "v1", AUTH) == secret
    has = {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass_is_set": True}
    assert desired_state.backend_changes(ml_backend(**has), "v1", AUTH) == {}
    assert (
        desired_state.backend_changes(ml_backend(**has | {"basic_auth_user": "other"}), "v1", AUTH) == secret
    )


def test_live_predictions_need_the_title_as_the_projects_version() -> None:
    project = {"show_collab_predictions": False, "model_version": "", "title": "other things stay"}
    assert desired_state.live_changes(project, "v1") == {
        "show_collab_predictions": True,
        "model_version": "v1",
    }
    assert desired_state.live_changes({"show_collab_predictions": True, "model_version": "v1"}, "v1") == {}


def test_a_webhook_has_the_credentials_if_the_backend_has() -> None:
    none, has = ml_backend(), ml_backend(auth_method="BASIC_AUTH")
    assert desired_state.webhook_headers({}, AUTH, none) == {"Authorization": HEADER}
    assert desired_state.webhook_headers({"authorization": "Basic old", "X-Own": "1"}, AUTH, has) == {
        "Authorization": HEADER,
        "X-Own": "1",
    }
    assert desired_state.webhook_headers({"Authorization": HEADER, "X-Own": "1"}, None, none) == {
        "X-Own": "1"
    }
    # a run without credentials does not remove them
    assert desired_state.webhook_headers({"Authorization": HEADER}, None, has) == {"Authorization": HEADER}


@pytest.mark.parametrize(
    ("before", "learning", "after"),
    [
        (None, {"learn": True}, None),
        ({}, {"learn": True}, None),
        ("", '{"learn": true}', "{}"),
        ({"score": "margin"}, {"score": "margin", "learn": True}, {"score": "margin"}),
        ('{"score": "ä"}', '{"score": "ä", "learn": true}', '{"score": "ä"}'),
        ({"learn": False}, {"learn": True}, None),
    ],
)
def test_the_other_extra_params_stay(before: Any, learning: Any, after: Any) -> None:
    assert desired_state.with_learn(before, True) == learning
    assert desired_state.with_learn(learning, True) == learning
    assert desired_state.with_learn(learning, None) == after
    assert desired_state.wants_to_learn(learning)
    assert not desired_state.wants_to_learn(before)


def test_a_control_that_is_named_stays_and_a_text_that_is_no_object_is_an_error() -> None:
    assert desired_state.with_learn({"learn": "mood"}, True) == {"learn": "mood"}
    assert desired_state.with_learn({"learn": "mood"}, None) is None
    assert desired_state.with_learn("words", None) == "words"
    for other in ("words", "[1]", [1], 3):
        with pytest.raises(BadSetting, match="not a JSON object"):
            desired_state.with_learn(other, True)


def test_extra_params_are_changed_only_if_they_differ() -> None:
    row = ml_backend(extra_params={"score": "margin"})
    assert desired_state.backend_changes(row, "v1", None, {"score": "margin"}) == {}
    assert desired_state.backend_changes(row, "v1", None, None) == {"extra_params": None}


def test_the_line_about_learning() -> None:
    says: dict[str, list[Any]] = {
        "✓": [{"learns": True, "control": "sentiment"}],
        "✗": [None, "x", {}, {"learns": False, "reason": "why"}, {"learns": "yes"}],
    }
    for mark, answers in says.items():
        assert {desired_state.learning_line(each, BACKEND).mark for each in answers} == {mark}
    assert "serve --learn" in desired_state.learning_line(None, BACKEND).remedy
    assert "why" in desired_state.learning_line({"learns": False, "reason": "why"}, BACKEND).text


def test_a_webhook_that_sends_all_annotations() -> None:
    assert desired_state.sends_annotations(webhook(1))
    assert desired_state.sends_annotations(
        webhook(1, send_for_all_actions=False, actions=[*desired_state.LEARNED_ACTIONS, "TASKS_CREATED"])
    )
    for fields in (
        {"is_active": False},
        {"send_payload": False},
        {"send_for_all_actions": False, "actions": ["ANNOTATION_CREATED"]},
    ):
        assert not desired_state.sends_annotations(webhook(1, **fields))


def test_one_webhook_is_kept_and_only_those_of_label_studio_are_duplicates() -> None:
    hooks = [
        webhook(1, is_active=False),
        webhook(2, headers={"Authorization": HEADER}),
        webhook(3),
        webhook(4, send_for_all_actions=False),
        webhook(5, url="http://192.0.2.7:9090/webhook"),
        webhook(6, headers={"X-Own": "1"}),
    ]
    kept, extra = desired_state.split_duplicates(hooks, f"{BACKEND}/")
    assert (numbers(kept), numbers(extra)) == ([2, 4, 6], [1, 3])
    assert desired_state.split_duplicates(hooks[:1], BACKEND) == (hooks[:1], [])
    assert desired_state.split_duplicates([hooks[4]], BACKEND) == ([], [])


def test_webhooks_of_removed_backends() -> None:
    hooks = [
        webhook(1),
        webhook(2, url="http://192.0.2.7:9090/older/webhook"),
        webhook(3, url="http://192.0.2.7:9091/webhook"),
        webhook(4, url="http://192.0.2.8:9090/replaced/webhook"),
        webhook(5, url="http://192.0.2.7:9090/used/webhook"),
        webhook(6, url="http://192.0.2.7:9090/mine/webhook", send_for_all_actions=False),
        webhook(7, url="http://192.0.2.7:9090/mine/events"),
        webhook(8, url="http://192.0.2.7:9090/mine/webhook", headers={"X-Own": "1"}),
        webhook(9, url="http://192.0.2.7:9090/older/webhook", project=None),
    ]
    certain, possible = desired_state.orphaned_webhooks(
        hooks, [BACKEND, "http://192.0.2.7:9090/used/"], BACKEND, ["http://192.0.2.8:9090/replaced/"]
    )
    assert (numbers(certain), numbers(possible)) == ([2, 4], [3])


def test_origins_know_the_default_ports() -> None:
    assert origin("http://Example.com/a") == origin("http://example.com:80/b")
    assert origin("https://example.com") != origin("http://example.com")


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (
            "POST /api/ml: 403: URL resolves to a reserved network address (block: 127.0.0.0/8)",
            403,
            "USE_DEFAULT_BANNED_SUBNETS=False",
        ),
        (
            "POST /api/ml: 400: … URL resolves to a reserved network address (block: 10.0.0.0/8)",
            400,
            "USE_DEFAULT_BANNED_SUBNETS=False",
        ),
        ("GET /api/version: 401: Invalid token.", 401, "LABEL_STUDIO_API_KEY"),
        (
            "PATCH /api/ml/3: 400: … 401 Client Error: Unauthorized for url: http://x/setup",
            400,
            "--basic-auth",
        ),
        ("PATCH /api/projects/7: 403: no", 403, "must be allowed"),
        ("POST /api/ml: 500: Can't resolve hostname prelabel", 500, "--host 0.0.0.0"),
        ("POST /api/ml: 400: Can't connect to ML backend, health check failed.", 400, "--host 0.0.0.0"),
    ],
)
def test_remedies(words: str, status: int, named: str) -> None:
    assert named in remedies.remedy(LabelStudioRefused(words, status))


def test_the_remedy_without_a_response_and_messages_without_html() -> None:
    assert "--label-studio" in remedies.remedy(LabelStudioUnreachable("no answer"))
    assert (
        remedies.plain_text(LabelStudioRefused('No. <a href="https://x.example">Learn\n more</a>', 400))
        == "No. Learn more"
    )


def test_the_verdict_on_a_test_prediction() -> None:
    region = {"value": {"choices": ["Positive"]}}
    answer = {"task": {"id": 3}, "response": [{"model_version": "v1", "score": 0.75, "result": [region]}]}
    assert (
        desired_state.test_verdict(answer, "v1").text == "Test prediction for task 3: Positive, score 0.750."
    )
    assert desired_state.test_verdict(answer, "v2").mark == "✗"
    assert (
        desired_state.test_verdict(
            {"task": {"id": 3}, "response": [{"model_version": "v1", "result": []}]}, "v1"
        ).mark
        == "–"
    )
    empty_responses: list[Any] = [None, {}, {"response": None}, {"response": []}, {"response": [[]]}]
    for empty in empty_responses:
        assert desired_state.test_verdict(empty, "v1").mark == "✗"


@pytest.mark.parametrize(
    "before", [RestorePoint(True, False, ""), RestorePoint(False, True, "Größe {1}", {"title": "default"})]
)
@pytest.mark.parametrize("own", ["", "Ours.\nPlease keep."])
def test_a_restore_point_is_read_back_from_a_description(before: RestorePoint, own: str) -> None:
    description = restore_point.write(before, own)
    assert restore_point.read(description) == restore_point.read(f"{description} and more words") == before
    assert restore_point.own_text(description) == own


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "Ours.",
        restore_point.SENTENCE,
        restore_point.SENTENCE + "{",
        restore_point.SENTENCE + '{"made":1}',
        restore_point.SENTENCE + "[]",
    ],
)
def test_an_invalid_restore_point_is_none(description: str | None) -> None:
    assert restore_point.read(description) is None
    assert (
        restore_point.read(
            restore_point.SENTENCE + '{"made":"yes","show_collab_predictions":true,"model_version":""}'
        )
        is None
    )


def test_a_restore_point_holds_the_settings_before_the_first_connect() -> None:
    project = {"show_collab_predictions": True, "model_version": "a"}
    first = ml_backend(title="a", description=restore_point.write(RestorePoint(True, False, "")))
    assert restore_point.take(project, [], None) == RestorePoint(True, True, "a")
    assert restore_point.take(project, [first], None) == RestorePoint(True, False, "")
    assert restore_point.take(project, [ml_backend(title="a")], {"title": "default"}) == RestorePoint(
        False, True, "a", {"title": "default"}
    )
    assert restore_point.take(project | {"model_version": None}, [first], None) == RestorePoint(
        True, True, ""
    )


def test_extra_params_before_a_later_run_are_added_to_the_restore_point() -> None:
    before = RestorePoint(False, True, "a", {"title": "default"})
    once = restore_point.with_extra_params(before, {"score": "margin"})
    assert once.row == {"title": "default", "extra_params": {"score": "margin"}}
    assert restore_point.with_extra_params(once, None) == once
    assert restore_point.read(restore_point.write(once)) == once


def test_only_what_connect_changed_is_restored() -> None:
    on: dict[str, Any] = {"show_collab_predictions": True, "model_version": "v1"}
    assert restore_point.project_changes(on, "v1", RestorePoint(True, True, "old")) == {
        "model_version": "old"
    }
    assert restore_point.project_changes(on, "v1", RestorePoint(True, False, "")) == {
        "show_collab_predictions": False,
        "model_version": "",
    }
    assert restore_point.project_changes(on, "v1", RestorePoint(True, True, "v1")) == {}
    assert (
        restore_point.project_changes(
            on | {"model_version": "chosen since"}, "v1", RestorePoint(True, True, "old")
        )
        == {}
    )
    kept = {"show_collab_predictions": False, "model_version": "chosen since"}
    assert (
        restore_point.project_changes(
            on | {"model_version": "chosen since"}, "v1", RestorePoint(True, False, "old")
        )
        == kept
    )
    assert (
        restore_point.project_changes(
            {"show_collab_predictions": False, "model_version": ""}, "v1", RestorePoint(True, False, "")
        )
        == {}
    )


def test_addresses() -> None:
    assert web_address("--backend", f"{BACKEND}/") == BACKEND
    for wrong in (
        "",
        "192.0.2.7:9090",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x:99999",
        "http://x?y=1",
        "http://user:password@x",
    ):
        with pytest.raises(BadSetting, match="--backend"):
            web_address("--backend", wrong)


def test_the_backends_user_and_password() -> None:
    both = {"PRELABEL_BASIC_AUTH_USER": "u", "PRELABEL_BASIC_AUTH_PASS": "p"}
    assert basic_auth(None, {}) is None
    assert basic_auth(None, both) == BasicAuth("u", "p")
    assert basic_auth("a:b:c", both) == BasicAuth("a", "b:c")
    assert "s3cret" not in repr(ConnectOptions("http://x", 1, "http://y", AUTH))
    for option, environ in (
        ("u", {}),
        (":p", {}),
        ("u:", {}),
        (None, {"PRELABEL_BASIC_AUTH_USER": "u"}),
        ("u:ü", {}),
        (None, both | {"PRELABEL_BASIC_AUTH_USER": "a:b"}),
    ):
        with pytest.raises(BadSetting):
            basic_auth(option, environ)


def test_options_and_the_token() -> None:
    options = read_options(
        "http://x/", 7, f"{BACKEND}/", None, {}, check=True, disconnect=False, replace=True
    )
    assert options == ConnectOptions("http://x", 7, BACKEND, None, check=True, replace=True)
    with pytest.raises(BadSetting, match="--disconnect"):
        read_options("http://x", 7, BACKEND, None, {}, check=True, disconnect=True, replace=False)
    for learn in (True, False):
        with pytest.raises(BadSetting, match="--no-learn"):
            read_options(
                "http://x", 7, BACKEND, None, {}, check=False, disconnect=True, replace=False, learn=learn
            )
    assert token({"LABEL_STUDIO_API_KEY": " abc\n"}) == "abc"


def test_a_line_is_printed_without_markup() -> None:
    out = io.StringIO()
    checklist.show(checklist.failed("a [bold]title[/bold]", "do [this]"), Console(file=out, width=10))
    assert out.getvalue() == "✗ a [bold]title[/bold]\n  → do [this]\n"


@pytest.mark.parametrize(
    ("environ", "options", "named"),
    [
        ({"LABEL_STUDIO_API_KEY": ""}, [], "LABEL_STUDIO_API_KEY is not set"),
        ({"LABEL_STUDIO_API_KEY": "x"}, ["--basic-auth", "s3cret"], "USER:PASSWORD"),
        ({"LABEL_STUDIO_API_KEY": "x"}, ["--disconnect", "--replace"], "--disconnect"),
        ({"LABEL_STUDIO_API_KEY": "x"}, ["--backend", "http://me:s3cret@x:99999"], "--basic-auth"),
    ],
)
def test_wrong_options_are_errors_before_any_request(
    environ: dict[str, str], options: list[str], named: str
) -> None:
    command = [
        sys.executable,
        "prelabel.py",
        "connect",
        "--label-studio",
        "http://127.0.0.1:1",
        "--project",
        "7",
        "--backend",
        BACKEND,
        *options,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert named in done.stderr
    assert "s3cret" not in done.stderr


def test_the_projects_name_in_requests_to_backends() -> None:
    assert (
        desired_state.backend_project_name({"id": 7, "created_at": "2026-01-02T03:04:05.678901Z"})
        == "7.1767323045"
    )
