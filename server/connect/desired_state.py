"""What has to change in Label Studio: rules over what its API answers (ML backends, webhooks, projects),
without I/O.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from server.connect.checklist import Line, aside, fails, holds
from server.errors import LabelStudioRefused, PrelabelError
from server.label_studio.credentials import BasicAuth, origin

Row = dict[str, Any]
"""An ML backend, a webhook or a project as Label Studio's API gives it."""

UNBLOCK = (
    "Label Studio 1.23.1 and later block addresses of the own machine and of private networks. Start "
    "Label Studio with USE_DEFAULT_BANNED_SUBNETS=False"
    " in its environment (or with both ML_BLOCK_LOCAL_IP=False and SSRF_PROTECTION_ENABLED=False), then "
    "run this again."
)
REACH = (
    "Label Studio's machine must reach this address: in a container 127.0.0.1 and localhost are the "
    "container itself, so give the name or address that"
    " the backend has from there, and start the backend with --host 0.0.0.0."
)
ANOTHER_KEY = (
    "Take a token from Label Studio (Account & Settings → Personal Access Token or Legacy Token) and put it "
    "in LABEL_STUDIO_API_KEY."
)


def name_of(project: Row) -> str:
    """A project's name to its ML backends: `<id>.<unix time of creation>`."""
    return f"{project['id']}.{int(datetime.fromisoformat(project['created_at']).timestamp())}"


def same_url(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def webhook_url(backend: str) -> str:
    """As Label Studio makes it."""
    return f"{backend.rstrip('/')}/webhook"


def row_changes(row: Row, version: str | None, auth: BasicAuth | None) -> Row:
    """What an ML backend must be given: the model version as its title, for else the score column stays
    empty; the user and password.
    """
    wanted: Row = {"auto_update": True} | ({"title": version} if version else {})
    changes = {name: value for name, value in wanted.items() if row[name] != value}
    if auth and not (
        row["auth_method"] == "BASIC_AUTH"
        and row["basic_auth_user"] == auth.user
        and row["basic_auth_pass_is_set"]
    ):
        changes |= auth_fields(auth)
    return changes


def auth_fields(auth: BasicAuth | None) -> Row:
    return (
        {"auth_method": "BASIC_AUTH", "basic_auth_user": auth.user, "basic_auth_pass": auth.password}
        if auth
        else {}
    )


def live_changes(project: Row, title: str) -> Row:
    """Label Studio asks for live predictions only while the project's model version is the ML backend's
    title.
    """
    wanted = {"show_collab_predictions": True, "model_version": title}
    return {name: value for name, value in wanted.items() if project[name] != value}


def headers_wanted(headers: Mapping[str, str], auth: BasicAuth | None, row: Row) -> dict[str, str]:
    """A webhook's headers: Label Studio calls it without the ML backend's user and password, so they go into
    a header of its own.
    """
    if auth is None and row["auth_method"] == "BASIC_AUTH":
        return dict(headers)
    others = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return others | ({"Authorization": auth.header} if auth else {})


def as_label_studio_makes(hook: Row) -> bool:
    """The shape of the webhooks that Label Studio adds with an ML backend; a header for the password may have
    come to it.
    """
    return bool(
        hook["project"]
        and hook["url"].endswith("/webhook")
        and hook["send_payload"]
        and hook["send_for_all_actions"]
        and {name.lower() for name in hook["headers"] or {}} <= {"authorization"}
    )


def split_webhooks(hooks: Iterable[Row], backend: str) -> tuple[list[Row], list[Row]]:
    """The backend's webhooks: those to keep, and repetitions. Repeats only count where Label Studio could
    have made them.
    """
    own = [hook for hook in hooks if same_url(hook["url"], webhook_url(backend))]
    made = [hook for hook in own if as_label_studio_makes(hook)]
    keep = next((hook for hook in made if hook["is_active"]), made[0] if made else None)
    extra = [hook for hook in made if hook is not keep]
    return [hook for hook in own if hook not in extra], extra


def left_over(
    hooks: Iterable[Row], urls: Collection[str], backend: str, replaced: Collection[str]
) -> tuple[list[Row], list[Row]]:
    """Webhooks of ML backends that are gone (Label Studio leaves them and goes on calling): surely, and
    perhaps.

    `urls`: of the project's ML backends. Perhaps: of another origin, so ask there before it is taken for one,
    if the host is one that the user named.
    """
    sure: list[Row] = []
    perhaps: list[Row] = []
    for hook in hooks:
        url = hook["url"].removesuffix("/webhook")
        if not as_label_studio_makes(hook) or any(same_url(url, other) for other in (*urls, backend)):
            continue
        known = origin(url) == origin(backend) or any(same_url(url, other) for other in replaced)
        (sure if known else perhaps).append(hook)
    return sure, perhaps


def same_host(one: str, other: str) -> bool:
    return origin(one)[1] == origin(other)[1]


def test_verdict(answer: Any, version: str) -> Line:
    """The line for Label Studio's answer to a test prediction."""
    results = answer.get("response") if isinstance(answer, dict) else None
    first = results[0] if isinstance(results, list) and results else None
    if not isinstance(first, dict):
        return fails(
            "The backend answered the test prediction with no result.", "The backend's log says more."
        )
    task = answer.get("task", {}).get("id")
    if first.get("model_version") != version:
        found = (
            f"The test prediction's model version is {first.get('model_version')!r}, not {version!r}: Label "
            "Studio would add predictions again and again."
        )
        return fails(found, "Serve one version at this address.")
    if not first.get("result"):
        return aside(
            f"The test prediction for task {task} is empty: the task has no text in the field that the "
            "labeling config names."
        )
    return holds(f"Test prediction for task {task}: {_choices(first)}.")


def _choices(prediction: Row) -> str:
    choices = [
        choice for region in prediction["result"] for choice in region.get("value", {}).get("choices", [])
    ]
    score = prediction.get("score")
    return ", ".join(map(str, choices)) + (f", score {score:.3f}" if isinstance(score, float) else "")


def in_words(error: PrelabelError) -> str:
    """An error without the markup that Label Studio puts into some."""
    return " ".join(re.sub(r"<[^>]{1,200}>", "", str(error)).split())


def remedy(error: PrelabelError) -> str:
    """What to do about an error of Label Studio's."""
    words, status = str(error), error.http_status if isinstance(error, LabelStudioRefused) else 0
    if is_blocked(error):
        return UNBLOCK
    if status == 401:
        return ANOTHER_KEY
    if "Can't resolve hostname" in words or "health check failed" in words:
        return REACH
    if "authentication parameters" in words or "401 Client Error" in words:
        return "Give the backend's user and password: --basic-auth USER:PASSWORD."
    if status == 403:
        return "The token's user must be allowed to change this project."
    if not status:
        return "Start Label Studio, or correct --label-studio."
    return "Label Studio's log says more."


def is_blocked(error: PrelabelError) -> bool:
    """Label Studio refuses addresses of private networks: 403, or the same words inside another refusal."""
    return "reserved network address" in str(error)


def not_a_web_address(error: PrelabelError) -> bool:
    """Label Studio takes no webhook to a host name without a dot (but localhost), as containers have."""
    return (
        isinstance(error, LabelStudioRefused)
        and error.http_status == 400
        and "Enter a valid URL" in str(error)
    )
