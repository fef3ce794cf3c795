"""Project activity: what GET / shows, and what it never contains."""

from datetime import UTC, datetime

from server.errors import BadLabelConfig, EngineFailed, Unauthorized
from server.observability.project_activity import (
    MAX_PROJECTS,
    MAX_TEXT,
    ProjectActivity,
    ProjectStatus,
    name_of,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
STAMP = "2026-01-02T12:00:00+00:00"


def projects_of(activity: ProjectActivity, model: str | None = None) -> dict[str, ProjectStatus]:
    return {entry["project"]: entry for entry in activity.snapshot(model)["projects"]}


def test_a_project_from_set_up_to_failure() -> None:
    activity = ProjectActivity(lambda: NOON)
    assert activity.set_up("m", "1.5", "m-1", "c ← t ($body)")
    assert not activity.set_up("m", "1.5", "m-1", "c ← t ($body)")
    activity.predicted("m", "1.5", predicted=3, empty=1, failed=0, config="c ← t ($body)")
    activity.predicted("m", "1.5", predicted=1, empty=0, failed=2, truncated=1, config="c ← t ($body)")
    activity.on_error("m", "1.5", EngineFailed("The model call failed."))
    assert projects_of(activity)["1.5"] == {
        "project": "1.5",
        "model": "m",
        "set_up": STAMP,
        "model_version": "m-1",
        "config": "c ← t ($body)",
        "learning": None,
        "predicted": 4,
        "empty": 1,
        "empty_because": None,
        "failed": 2,
        "truncated": 1,
        "refused": 1,
        "last_errors": [
            {"time": STAMP, "error": "EngineFailed", "status": 500, "reason": "The model call failed."}
        ],
    }
    assert activity.snapshot()["refused_configs"] == []


def test_a_rejected_config_is_shown_for_its_project_and_listed_separately() -> None:
    activity = ProjectActivity(lambda: NOON)
    activity.set_up("m", "1.5", "m-1", "c ← t ($body)")
    activity.on_error("m", "1.5", BadLabelConfig("no <Choices>"))
    activity.on_error("other", "2.5", BadLabelConfig("no <Text>"))
    assert projects_of(activity)["1.5"]["config"] == "no <Choices>"
    assert activity.snapshot()["refused_configs"][0] == {
        "time": STAMP,
        "model": "other",
        "project": "2.5",
        "reason": "no <Text>",
    }
    assert [refused["reason"] for refused in activity.snapshot("m")["refused_configs"]] == ["no <Choices>"]
    assert list(projects_of(activity, "m")) == ["1.5"]


def test_a_config_that_works_replaces_the_reason_why_none_was_served() -> None:
    activity = ProjectActivity(lambda: NOON)
    for project in ("1.5", "2.5", "3.5"):
        activity.on_error("m", project, BadLabelConfig("no <Choices>"))
    activity.set_up("m", "1.5", "m-1", "c ← t ($body)")
    activity.predicted("m", "2.5", predicted=1, empty=0, failed=0, config="c ← t ($text)")
    assert {name: entry["config"] for name, entry in projects_of(activity).items()} == {
        "1.5": "c ← t ($body)",
        "2.5": "c ← t ($text)",
        "3.5": "no <Choices>",
    }
    assert [refused["project"] for refused in activity.snapshot()["refused_configs"]] == ["3.5"]


def test_it_is_bounded_and_shows_the_latest_first() -> None:
    activity = ProjectActivity()
    for number in range(MAX_PROJECTS + 5):
        activity.predicted("m", f"{number}.1", predicted=1, empty=0, failed=0, config="c ← t ($body)")
    for _ in range(50):
        activity.on_error("m", "9.1", BadLabelConfig("no"))
    projects = projects_of(activity)
    assert len(projects) == MAX_PROJECTS
    assert next(iter(projects)) == "9.1"
    assert "0.1" not in projects
    assert (
        projects["9.1"]["refused"],
        len(projects["9.1"]["last_errors"]),
        len(activity.snapshot()["refused_configs"]),
    ) == (50, 5, 20)


def test_long_reasons_and_configs_are_cut() -> None:
    activity, long = ProjectActivity(), "x" * 2_000
    activity.set_up("model", "1.1", "v", long)
    activity.predicted("model", "1.1", predicted=0, empty=1, failed=0, config=long, empty_because=long)
    activity.on_error("model", "1.1", EngineFailed(long))
    activity.on_error("model", "1.1", BadLabelConfig(long))
    shown = activity.snapshot()
    (project,), (refused,) = shown["projects"], shown["refused_configs"]
    cut = [project["config"], project["empty_because"], refused["reason"]]
    assert {*cut, *(error["reason"] for error in project["last_errors"])} == {"x" * MAX_TEXT + "…"}


def test_an_invalid_project_name_is_shown_as_unknown() -> None:
    assert [
        name_of(project) for project in ("1.1795474444", None, 7, "a text that is no name", "x" * 101, "")
    ] == ["1.1795474444"] + ["unknown"] * 5
    activity = ProjectActivity()
    activity.on_error("m", "my secret text", Unauthorized("no", "Basic"))
    assert "secret" not in str(activity.snapshot())
