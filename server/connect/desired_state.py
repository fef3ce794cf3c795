"""Pure rules of `prelabel connect`: what differs between Label Studio's records and how they should be."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from server.connect.checklist import Line, failed, note, passed
from server.errors import BadSetting
from server.label_studio.credentials import BasicAuth, origin
from server.label_studio.extra_params import read_params
from server.learning.annotations import UNTRAINED

Row = dict[str, Any]
"""An ML backend, a webhook or a project, as Label Studio's API returns it."""


def backend_project_name(project: Row) -> str:
    """The name that Label Studio gives a project in requests to ML backends: `<id>.<unix time of
    creation>`.
    """
    return f"{project['id']}.{int(datetime.fromisoformat(project['created_at']).timestamp())}"


def same_url(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def same_host(one: str, other: str) -> bool:
    return origin(one)[1] == origin(other)[1]


def webhook_url(backend: str) -> str:
    """The URL of the webhook that Label Studio adds with an ML backend."""
    return f"{backend.rstrip('/')}/webhook"


def backend_changes(row: Row, version: str | None, auth: BasicAuth | None, extra_params: Any = None) -> Row:
    """Fields of an ML backend to change. Its title must be the model version: otherwise the score column
    stays empty. `extra_params` are those that it should have.
    """
    wanted: Row = {"auto_update": True} | ({"title": version} if version else {})
    changes = {name: value for name, value in wanted.items() if row[name] != value}
    if row.get("extra_params") != extra_params:
        changes["extra_params"] = extra_params
    if auth and not (
        row["auth_method"] == "BASIC_AUTH"
        and row["basic_auth_user"] == auth.user
        and row["basic_auth_pass_is_set"]
    ):
        changes |= auth_fields(auth)
    return changes


def wants_to_learn(extra_params: Any) -> bool:
    """Whether an ML backend with these extra parameters learns from annotations."""
    return read_params(extra_params).get("learn") not in (None, False)


def with_learn(extra_params: Any, learn: object) -> Any:
    """Extra parameters that ask to learn or not; `learn` as in these, None for nothing. The others stay, and
    so does a text a text. Raises BadSetting for parameters that are not an object.
    """
    params = dict(read_params(extra_params))
    if params.get("learn") == learn or (learn is True and wants_to_learn(params)):
        return extra_params
    if not params and extra_params not in (None, "", {}, "{}"):
        raise BadSetting(
            "The extra parameters of the ML backend are not a JSON object, so --learn cannot be added to "
            "them. Change or remove them under Settings → Model."
        )
    others = {name: value for name, value in params.items() if name != "learn"}
    changed = others if learn is None else others | {"learn": learn}
    if isinstance(extra_params, str):
        return json.dumps(changed, ensure_ascii=False)
    return changed or None


def learning_line(learning: Any, url: str) -> Line:
    """The line for what a backend says of learning at its set-up."""
    if not isinstance(learning, dict):
        return failed(
            f"The backend {url} does not learn from annotations.",
            "Start it with prelabel serve --learn URL; an older version of Prelabel must be upgraded.",
        )
    if learning.get("learns") is not True:
        return failed(
            f"The backend {url} does not learn from this project: {learning.get('reason')}",
            "Correct what the message names, then run this again.",
        )
    return passed(f"The backend learns the control {learning.get('control')} from annotations.")


LEARNED_ACTIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"}
"""Actions of a webhook without which something is not learned."""

SENDS_ALL = {"is_active": True, "send_payload": True, "send_for_all_actions": True}
"""The fields of a webhook that sends all annotations."""


def sends_annotations(hook: Row) -> bool:
    return bool(
        hook["is_active"]
        and hook["send_payload"]
        and (hook["send_for_all_actions"] or set(hook["actions"]) >= LEARNED_ACTIONS)
    )


def auth_fields(auth: BasicAuth | None) -> Row:
    if auth is None:
        return {}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": auth.user, "basic_auth_pass": auth.password}


def live_changes(project: Row, title: str) -> Row:
    """Fields of the project to change. Label Studio makes live predictions only while the project's model
    version is the ML backend's title.
    """
    wanted = {"show_collab_predictions": True, "model_version": title}
    return {name: value for name, value in wanted.items() if project[name] != value}


def webhook_headers(headers: Mapping[str, str], auth: BasicAuth | None, row: Row) -> dict[str, str]:
    """The headers that a webhook should have, given the ML backend `row`. Label Studio calls webhooks without
    the ML backend's credentials, so they need a header of their own.
    """
    if auth is None and row["auth_method"] == "BASIC_AUTH":
        return dict(headers)
    others = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return others | ({"Authorization": auth.header} if auth else {})


def made_by_label_studio(hook: Row) -> bool:
    """Whether a webhook looks like those that Label Studio adds with an ML backend. An Authorization header
    may have been added since.
    """
    return bool(
        hook["project"]
        and hook["url"].endswith("/webhook")
        and hook["send_payload"]
        and hook["send_for_all_actions"]
        and {name.lower() for name in hook["headers"] or {}} <= {"authorization"}
    )


def split_duplicates(hooks: Iterable[Row], backend: str) -> tuple[list[Row], list[Row]]:
    """(the backend's webhooks to keep, duplicates). Only webhooks that Label Studio made can be
    duplicates.
    """
    own = [hook for hook in hooks if same_url(hook["url"], webhook_url(backend))]
    made = [hook for hook in own if made_by_label_studio(hook)]
    keep = next((hook for hook in made if hook["is_active"]), made[0] if made else None)
    duplicates = [hook for hook in made if hook is not keep]
    return [hook for hook in own if hook not in duplicates], duplicates


def orphaned_webhooks(
    hooks: Iterable[Row], urls: Collection[str], backend: str, replaced: Collection[str]
) -> tuple[list[Row], list[Row]]:
    """(certain, possible) webhooks of ML backends that were removed; Label Studio keeps calling them.

    `urls` are those of the project's ML backends, `replaced` those removed in this run. An orphan is certain
    on the origin of `backend` or of a replaced one; on another origin it is only possible.
    """
    certain: list[Row] = []
    possible: list[Row] = []
    for hook in hooks:
        url = hook["url"].removesuffix("/webhook")
        if not made_by_label_studio(hook) or any(same_url(url, other) for other in (*urls, backend)):
            continue
        known = origin(url) == origin(backend) or any(same_url(url, other) for other in replaced)
        (certain if known else possible).append(hook)
    return certain, possible


def test_verdict(response: Any, version: str) -> Line:
    """The line for Label Studio's response to a test prediction."""
    results = response.get("response") if isinstance(response, dict) else None
    first = results[0] if isinstance(results, list) and results else None
    if not isinstance(first, dict):
        return failed(
            "The backend returned no result for the test prediction.",
            "See the backend's log for the reason.",
        )
    task = response.get("task", {}).get("id")
    if not first and version.endswith(UNTRAINED):
        return note(
            "No test prediction: no model has the labels of this project yet; it learns them from the "
            "annotations."
        )
    if first.get("model_version") != version:
        return failed(
            f"The test prediction's model version is {first.get('model_version')!r}, not {version!r}: Label "
            "Studio would add predictions again and again.",
            "Serve one version at this address.",
        )
    if not first.get("result"):
        return note(
            f"The test prediction for task {task} is empty: the task has no text in the field that the "
            "labeling config names."
        )
    return passed(f"Test prediction for task {task}: {_choices(first)}.")


def _choices(prediction: Row) -> str:
    choices = [
        choice for region in prediction["result"] for choice in region.get("value", {}).get("choices", [])
    ]
    score = prediction.get("score")
    return ", ".join(map(str, choices)) + (f", score {score:.3f}" if isinstance(score, float) else "")
